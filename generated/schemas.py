# Written by codegen.py; change openapi/ instead.
"""Every wire type, as openapi.json describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints
from typing_extensions import TypeAliasType

from specserve.generated.base import ApiModel


class ErrorBody(ApiModel):
    """
    What went wrong, for people (message) and for programs (type, param, code).
    """

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorResponse(ApiModel):
    """
    The envelope of every error, also of one that ends a stream.
    """

    error: ErrorBody


class CompletionTokensDetails(ApiModel):
    """
    What the generated tokens were spent on.
    """

    reasoning_tokens: Annotated[int | None, Field(ge=0)] = None
    accepted_prediction_tokens: Annotated[int | None, Field(ge=0)] = None
    rejected_prediction_tokens: Annotated[int | None, Field(ge=0)] = None
    audio_tokens: Annotated[int | None, Field(ge=0)] = None
    text_tokens: Annotated[int | None, Field(ge=0)] = None


StopString = TypeAliasType("StopString", Annotated[str, Field(min_length=1)])


StopStrings = TypeAliasType(
    "StopStrings", Annotated[list[StopString], Field(fail_fast=True, max_length=4, min_length=0)]
)


StopSequences = TypeAliasType(
    "StopSequences",
    Annotated[
        StopString | StopStrings, Field(description="Texts that end the answer; the match itself is cut off.")
    ],
)


LogitBiasValue = TypeAliasType("LogitBiasValue", Annotated[float, Field(ge=-100.0, le=100.0)])


LogitBias = TypeAliasType(
    "LogitBias",
    Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[0-9]+$")], LogitBiasValue],
        Field(
            description="Added to the logit of each listed token, from -100 to 100; the key is the token id in decimal."
        ),
    ],
)


ReasoningEffort = TypeAliasType(
    "ReasoningEffort",
    Annotated[
        Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        Field(description="How long the model should think before it answers."),
    ],
)


ServiceTier = TypeAliasType(
    "ServiceTier",
    Annotated[
        Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"],
        Field(description="Processing class of a request."),
    ],
)


MetadataValue = TypeAliasType("MetadataValue", Annotated[str, Field(max_length=512)])


Metadata = TypeAliasType(
    "Metadata",
    Annotated[
        dict[Annotated[str, StringConstraints(max_length=64)], MetadataValue],
        Field(description="Notes of the client about a request, up to 16 short pairs.", max_length=16),
    ],
)


class PromptCacheBreakpoint(ApiModel):
    """
    Asks a cache to end a reusable prefix here.
    """

    mode: Literal["explicit"]
    ttl: Literal["30m", "12h"] | None = None


class TextPart(ApiModel):
    """
    Text.
    """

    type: Literal["text", "input_text", "output_text"]
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class ImageUrl(ApiModel):
    """
    Where an image is found.
    """

    url: str
    detail: Literal["auto", "low", "high", "original"] = "auto"


class InputAudio(ApiModel):
    """
    Sound within the request.
    """

    data: str
    format: Literal["wav", "mp3"]


class FileContent(ApiModel):
    """
    A file, within the request or uploaded before.
    """

    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class FilePart(ApiModel):
    """
    A file.
    """

    type: Literal["file"]
    file: FileContent
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class RefusalPart(ApiModel):
    """
    An earlier refusal of the model.
    """

    type: Literal["refusal"]
    refusal: str


TextParts = TypeAliasType("TextParts", Annotated[list[TextPart], Field(fail_fast=True, min_length=1)])


TextContent = TypeAliasType("TextContent", str | TextParts)


class SystemMessage(ApiModel):
    """
    Instructions.
    """

    role: Literal["system"]
    name: str | None = None
    content: TextContent


class DeveloperMessage(ApiModel):
    """
    Instructions, under the newer name of the role.
    """

    role: Literal["developer"]
    name: str | None = None
    content: TextContent


class EarlierAudio(ApiModel):
    """
    Names an earlier spoken answer.
    """

    id: str


class ToolMessage(ApiModel):
    """
    The result of a tool call.
    """

    role: Literal["tool"]
    tool_call_id: str
    content: TextContent


class FunctionMessage(ApiModel):
    """
    The result of a function call, in the form before tools.
    """

    role: Literal["function"]
    name: str
    content: str | None


class FunctionCall(ApiModel):
    """
    A function and its arguments.
    """

    name: str
    arguments: str


class FunctionToolCall(ApiModel):
    """
    A call of a function.
    """

    id: str
    type: Literal["function"]
    function: FunctionCall


class CustomCall(ApiModel):
    """
    A custom tool and its input.
    """

    name: str
    input: str


class CustomToolCall(ApiModel):
    """
    A call of a custom tool.
    """

    id: str
    type: Literal["custom"]
    custom: CustomCall


ToolCall = TypeAliasType(
    "ToolCall", Annotated[FunctionToolCall | CustomToolCall, Field(discriminator="type")]
)


class FunctionDefinition(ApiModel):
    """
    A function the model may call.
    """

    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = False


class FunctionTool(ApiModel):
    """
    A function as a tool.
    """

    type: Literal["function"]
    function: FunctionDefinition


class CustomFormatText(ApiModel):
    """
    Any text.
    """

    type: Literal["text"]


class CustomGrammar(ApiModel):
    """
    A grammar.
    """

    definition: str
    syntax: Literal["lark", "regex"]


class CustomFormatGrammar(ApiModel):
    """
    Text of a grammar.
    """

    type: Literal["grammar"]
    grammar: CustomGrammar


CustomFormat = TypeAliasType(
    "CustomFormat", Annotated[CustomFormatText | CustomFormatGrammar, Field(discriminator="type")]
)


class CustomDefinition(ApiModel):
    """
    A tool that takes text.
    """

    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    format: CustomFormat | None = None


class CustomTool(ApiModel):
    """
    A custom tool.
    """

    type: Literal["custom"]
    custom: CustomDefinition


Tool = TypeAliasType("Tool", Annotated[FunctionTool | CustomTool, Field(discriminator="type")])


Tools = TypeAliasType("Tools", Annotated[list[Tool], Field(fail_fast=True, min_length=1)])


class ToolName(ApiModel):
    """
    Names a tool.
    """

    name: str


class NamedToolChoice(ApiModel):
    """
    Call this function.
    """

    type: Literal["function"]
    function: ToolName


class NamedCustomToolChoice(ApiModel):
    """
    Call this custom tool.
    """

    type: Literal["custom"]
    custom: ToolName


class AllowedTools(ApiModel):
    """
    The tools that may be called now.
    """

    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class AllowedToolsChoice(ApiModel):
    """
    Choose among some of the tools.
    """

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoiceMode = TypeAliasType("ToolChoiceMode", Literal["none", "auto", "required"])


SpecificToolChoice = TypeAliasType(
    "SpecificToolChoice",
    Annotated[NamedToolChoice | NamedCustomToolChoice | AllowedToolsChoice, Field(discriminator="type")],
)


ToolChoice = TypeAliasType("ToolChoice", ToolChoiceMode | SpecificToolChoice)


class LegacyFunction(ApiModel):
    """
    A function, in the form before tools.
    """

    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None


LegacyFunctions = TypeAliasType(
    "LegacyFunctions", Annotated[list[LegacyFunction], Field(fail_fast=True, max_length=128, min_length=1)]
)


LegacyFunctionMode = TypeAliasType("LegacyFunctionMode", Literal["none", "auto"])


LegacyFunctionChoice = TypeAliasType("LegacyFunctionChoice", LegacyFunctionMode | ToolName)


class JsonSchemaFormat(ApiModel):
    """
    A named JSON schema.
    """

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = False


class ResponseFormatText(ApiModel):
    """
    Free text.
    """

    type: Literal["text"]


class ResponseFormatJsonObject(ApiModel):
    """
    Any JSON object.
    """

    type: Literal["json_object"]


class ResponseFormatJsonSchema(ApiModel):
    """
    JSON that follows a schema.
    """

    type: Literal["json_schema"]
    json_schema: JsonSchemaFormat


class VoiceId(ApiModel):
    """
    A voice of one's own.
    """

    id: str


Voice = TypeAliasType("Voice", str | VoiceId)


class AudioOptions(ApiModel):
    """
    How a spoken answer sounds.
    """

    format: Literal["wav", "aac", "mp3", "flac", "opus", "pcm16"]
    voice: Voice


class Prediction(ApiModel):
    """
    Text the answer is expected to repeat in large part.
    """

    type: Literal["content"]
    content: TextContent


class ApproximateLocation(ApiModel):
    """
    Roughly where the user is.
    """

    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class UserLocation(ApiModel):
    """
    Where the user is.
    """

    type: Literal["approximate"]
    approximate: ApproximateLocation


class WebSearchOptions(ApiModel):
    """
    Search the web for the answer.
    """

    search_context_size: Literal["low", "medium", "high"] = "medium"
    user_location: UserLocation | None = None


class PromptCacheOptions(ApiModel):
    """
    How prefixes are cached.
    """

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = None


class ModerationRule(ApiModel):
    """
    What to do with flagged text.
    """

    mode: Literal["score", "block"]


class ModerationPolicy(ApiModel):
    """
    Rules for both directions.
    """

    input: ModerationRule | None = None
    output: ModerationRule | None = None


class ModerationOptions(ApiModel):
    """
    Check question and answer with a moderation model.
    """

    model: str
    policy: ModerationPolicy | None = None


class TokenLogprob(ApiModel):
    """
    A candidate token.
    """

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprobs(ApiModel):
    """
    An output token, and the candidates in its place.
    """

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TokenLogprob]


class ChoiceLogprobs(ApiModel):
    """
    Log probabilities of the output tokens.
    """

    content: list[TokenLogprobs] | None
    refusal: list[TokenLogprobs] | None


FinishReason = TypeAliasType(
    "FinishReason",
    Annotated[
        Literal["stop", "length", "tool_calls", "content_filter", "function_call", "abort", "repetition"],
        Field(description="Why the answer ended."),
    ],
)


class UrlCitation(ApiModel):
    """
    A source on the web, and the stretch of the answer it supports.
    """

    start_index: int
    end_index: int
    title: str
    url: str


class Annotation(ApiModel):
    """
    A note on the answer.
    """

    type: Literal["url_citation"]
    url_citation: UrlCitation


class ResponseAudio(ApiModel):
    """
    A spoken answer.
    """

    id: str
    data: str
    expires_at: int
    transcript: str


class ModerationScores(ApiModel):
    """
    What the moderation model found in one text.
    """

    type: Literal["moderation_result"]
    model: str
    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text", "image"]]]


class ModerationResults(ApiModel):
    """
    What the moderation model found.
    """

    type: Literal["moderation_results"]
    model: str
    results: list[ModerationScores]


class ModerationFailure(ApiModel):
    """
    Why moderation did not happen.
    """

    type: Literal["error"]
    code: str
    message: str


ModerationOutcome = TypeAliasType(
    "ModerationOutcome", Annotated[ModerationResults | ModerationFailure, Field(discriminator="type")]
)


class Moderation(ApiModel):
    """
    Outcome for question and answer.
    """

    input: ModerationOutcome
    output: ModerationOutcome


class FunctionCallDelta(ApiModel):
    """
    A piece of a function call.
    """

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(ApiModel):
    """
    A piece of the tool call with this index; id, type and name come with the first piece.
    """

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionCallDelta | None = None


class AudioDelta(ApiModel):
    """
    A piece of a spoken answer.
    """

    id: str | None = None
    data: str | None = None
    expires_at: int | None = None
    transcript: str | None = None


PromptToken = TypeAliasType("PromptToken", Annotated[int, Field(ge=0, le=2147483647)])


PromptTokens = TypeAliasType(
    "PromptTokens", Annotated[list[PromptToken], Field(fail_fast=True, min_length=1)]
)


PromptTokensBatch = TypeAliasType(
    "PromptTokensBatch", Annotated[list[PromptTokens], Field(fail_fast=True, max_length=1024, min_length=1)]
)


PromptTexts = TypeAliasType(
    "PromptTexts", Annotated[list[str], Field(fail_fast=True, max_length=1024, min_length=1)]
)


Prompt = TypeAliasType(
    "Prompt",
    Annotated[
        PromptTokens | PromptTokensBatch | str | PromptTexts,
        Field(description="Text, token ids, or a list of either."),
    ],
)


TopLogprobs = TypeAliasType("TopLogprobs", dict[str, float])
"""
Token text to log probability.
"""


class CompletionLogprobs(ApiModel):
    """
    Log probabilities as parallel lists, one entry for each token.
    """

    text_offset: list[int] | None = None
    token_logprobs: list[float | None] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[TopLogprobs | None] | None = None


CompletionFinishReason = TypeAliasType(
    "CompletionFinishReason",
    Annotated[
        Literal["stop", "length", "content_filter", "abort", "repetition"],
        Field(description="Why the continuation ended."),
    ],
)


Includable = TypeAliasType(
    "Includable",
    Annotated[
        Literal[
            "message.output_text.logprobs",
            "reasoning.encrypted_content",
            "file_search_call.results",
            "web_search_call.results",
            "web_search_call.action.sources",
            "message.input_image.image_url",
            "computer_call_output.output.image_url",
            "code_interpreter_call.outputs",
        ],
        Field(description="Something an answer can carry besides."),
    ],
)


Includables = TypeAliasType("Includables", Annotated[list[Includable] | None, Field(fail_fast=True)])


class ReasoningOptions(ApiModel):
    """
    How the model should think.
    """

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto", "current_turn", "all_turns"] | None = None
    mode: str | None = None


class TextFormatJsonSchema(ApiModel):
    """
    JSON that follows a schema.
    """

    type: Literal["json_schema"]
    name: Annotated[str, Field(max_length=64, min_length=1, pattern="^[a-zA-Z0-9_-]+$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = False


TextFormat = TypeAliasType(
    "TextFormat",
    Annotated[
        ResponseFormatText | ResponseFormatJsonObject | TextFormatJsonSchema, Field(discriminator="type")
    ],
)


class TextOptions(ApiModel):
    """
    What the text of an answer looks like.
    """

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseStreamOptions(ApiModel):
    """
    How a stream looks; only together with stream.
    """

    include_obfuscation: bool = False


class PromptReference(ApiModel):
    """
    A prompt that is stored with the provider.
    """

    id: str
    variables: dict[str, Any] | None = None
    version: str | None = None


class ConversationReference(ApiModel):
    """
    A conversation that is stored with the provider.
    """

    id: str


class ContextManagement(ApiModel):
    """
    How a conversation is shortened.
    """

    type: str
    compact_threshold: Annotated[int | None, Field(ge=0, le=2147483647)] = None


class OpenObject(ApiModel):
    """
    An object whose fields are its sender's affair.
    """

    model_config = ConfigDict(extra="allow")


Conversation = TypeAliasType("Conversation", str | ConversationReference)


class InputTextPart(ApiModel):
    """
    Text.
    """

    type: Literal["input_text", "text"]
    text: str
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class EarlierTextPart(ApiModel):
    """
    Text of an earlier answer.
    """

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]] | None = None
    logprobs: list[dict[str, Any]] | None = None


class ImageInputPart(ApiModel):
    """
    A picture.
    """

    type: Literal["input_image"]
    detail: Literal["auto", "low", "high", "original"] | None = None
    image_url: str | None = None
    file_id: str | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class FileInputPart(ApiModel):
    """
    A file.
    """

    type: Literal["input_file"]
    detail: Literal["auto", "low", "high"] | None = None
    file_data: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class ReasoningTextPart(ApiModel):
    """
    Reasoning.
    """

    type: Literal["reasoning_text"]
    text: str


class SummaryTextPart(ApiModel):
    """
    A summary of reasoning.
    """

    type: Literal["summary_text"]
    text: str


class AnswerTextPart(ApiModel):
    """
    Text of an answer.
    """

    type: Literal["output_text"]
    text: str
    annotations: list[dict[str, Any]]
    logprobs: list[TokenLogprobs]


class AnswerRefusalPart(ApiModel):
    """
    What was said instead of an answer.
    """

    type: Literal["refusal"]
    refusal: str


AnswerPart = TypeAliasType(
    "AnswerPart", Annotated[AnswerTextPart | AnswerRefusalPart, Field(discriminator="type")]
)


StreamedPart = TypeAliasType(
    "StreamedPart",
    Annotated[AnswerTextPart | AnswerRefusalPart | ReasoningTextPart, Field(discriminator="type")],
)


ItemStatus = TypeAliasType(
    "ItemStatus",
    Annotated[Literal["in_progress", "completed", "incomplete"], Field(description="How far an item is.")],
)


MessagePhase = TypeAliasType(
    "MessagePhase",
    Annotated[
        Literal["commentary", "final_answer"],
        Field(description="Whether a message of the assistant comes before its work or after it."),
    ],
)


class FunctionCallParam(ApiModel):
    """
    A function the model called before.
    """

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    async_: Annotated[bool | None, Field(alias="async")] = None
    caller: OpenObject | None = None
    id: str | None = None
    status: ItemStatus | None = None


class CustomToolCallParam(ApiModel):
    """
    A custom tool the model called before.
    """

    type: Literal["custom_tool_call"]
    call_id: str
    name: str
    input: str
    namespace: str | None = None
    async_: Annotated[bool | None, Field(alias="async")] = None
    caller: OpenObject | None = None
    id: str | None = None
    status: ItemStatus | None = None


class ReasoningParam(ApiModel):
    """
    Earlier reasoning.
    """

    type: Literal["reasoning"]
    summary: list[SummaryTextPart] | None = None
    content: list[ReasoningTextPart] | None = None
    encrypted_content: str | None = None
    id: str | None = None
    status: ItemStatus | None = None


class ItemReference(ApiModel):
    """
    An item of the conversation so far, by its id. One with an id and nothing else is such a reference.
    """

    type: Literal["item_reference"] | None = None
    id: str


class OtherItem(ApiModel):
    """
    An item that this server can do nothing with, such as what hosted tools leave behind. It is kept with the input, not shown to the model, and named in a header.
    """

    model_config = ConfigDict(extra="allow")
    type: str | None = None


class OutputMessage(ApiModel):
    """
    What the model says.
    """

    type: Literal["message"]
    id: str
    role: Literal["assistant"]
    status: ItemStatus
    content: list[AnswerPart]
    phase: MessagePhase | None = None


class ReasoningItem(ApiModel):
    """
    What the model thinks.
    """

    type: Literal["reasoning"]
    id: str
    summary: list[SummaryTextPart]
    content: list[ReasoningTextPart]
    encrypted_content: str | None = None
    status: ItemStatus


class FunctionCallItem(ApiModel):
    """
    A function the model calls.
    """

    type: Literal["function_call"]
    id: str
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None
    status: ItemStatus


class CustomToolCallItem(ApiModel):
    """
    A custom tool the model calls.
    """

    type: Literal["custom_tool_call"]
    id: str
    call_id: str
    name: str
    input: str
    namespace: str | None = None
    status: ItemStatus


OutputItem = TypeAliasType(
    "OutputItem",
    Annotated[
        OutputMessage | ReasoningItem | FunctionCallItem | CustomToolCallItem, Field(discriminator="type")
    ],
)


class ResponseFunctionTool(ApiModel):
    """
    A function of the client.
    """

    type: Literal["function"]
    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    allowed_callers: list[str] | None = None
    async_: Annotated[bool | None, Field(alias="async")] = None
    defer_loading: bool | None = None
    output_schema: dict[str, Any] | None = None


class CustomInputText(ApiModel):
    """
    Any text.
    """

    type: Literal["text"]


class CustomInputGrammar(ApiModel):
    """
    Text of a grammar.
    """

    type: Literal["grammar"]
    syntax: Literal["lark", "regex"]
    definition: Annotated[str, Field(min_length=1)]


CustomInputFormat = TypeAliasType(
    "CustomInputFormat", Annotated[CustomInputText | CustomInputGrammar, Field(discriminator="type")]
)


class ResponseCustomTool(ApiModel):
    """
    A tool that takes text instead of JSON.
    """

    type: Literal["custom"]
    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    format: CustomInputFormat | None = None
    allowed_callers: list[str] | None = None
    async_: Annotated[bool | None, Field(alias="async")] = None
    defer_loading: bool | None = None


NamespacedTool = TypeAliasType(
    "NamespacedTool", Annotated[ResponseFunctionTool | ResponseCustomTool, Field(discriminator="type")]
)


class NamespaceTool(ApiModel):
    """
    Tools under one roof; the model sees each as namespace__name.
    """

    type: Literal["namespace"]
    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    tools: list[NamespacedTool]


class OtherTool(ApiModel):
    """
    A tool that does not run here, such as those a provider hosts. It is skipped, and named in a header.
    """

    model_config = ConfigDict(extra="allow")
    type: str | None = None


ResponseTool = TypeAliasType(
    "ResponseTool", ResponseFunctionTool | ResponseCustomTool | NamespaceTool | OtherTool
)


ResponseTools = TypeAliasType(
    "ResponseTools", Annotated[list[ResponseTool], Field(fail_fast=True, max_length=1024)]
)


class FunctionToolChoice(ApiModel):
    """
    A call of this function.
    """

    type: Literal["function"]
    name: str


class CustomToolNameChoice(ApiModel):
    """
    A call of this custom tool.
    """

    type: Literal["custom"]
    name: str


class ResponseAllowedTools(ApiModel):
    """
    Only some of the tools.
    """

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[dict[str, Any]]


class HostedToolChoice(ApiModel):
    """
    A call of a tool that a provider hosts.
    """

    type: Literal[
        "file_search",
        "web_search",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "computer",
        "computer_use",
        "computer_use_preview",
        "image_generation",
        "code_interpreter",
        "mcp",
        "programmatic_tool_calling",
        "apply_patch",
        "shell",
    ]
    server_label: str | None = None
    name: str | None = None


ToolChoiceWord = TypeAliasType(
    "ToolChoiceWord",
    Annotated[Literal["none", "auto", "required"], Field(description="Whether tools are called.")],
)


ToolChoiceObject = TypeAliasType(
    "ToolChoiceObject",
    Annotated[
        FunctionToolChoice | CustomToolNameChoice | ResponseAllowedTools | HostedToolChoice,
        Field(discriminator="type"),
    ],
)


ResponseToolChoice = TypeAliasType("ResponseToolChoice", ToolChoiceWord | ToolChoiceObject)


ResponseStatus = TypeAliasType(
    "ResponseStatus",
    Annotated[
        Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"],
        Field(description="How far a response is."),
    ],
)


class IncompleteDetails(ApiModel):
    """
    Why an answer is not complete.
    """

    reason: Literal["max_output_tokens", "max_messages", "content_filter", "steered"]


class ResponseError(ApiModel):
    """
    What went wrong.
    """

    code: str
    message: str
    param: str | None = None
    type: str | None = None


class InputTokensDetails(ApiModel):
    """
    Where the input tokens came from.
    """

    cached_tokens: Annotated[int, Field(ge=0)]
    cache_write_tokens: Annotated[int, Field(ge=0)]


class OutputTokensDetails(ApiModel):
    """
    What the generated tokens were spent on.
    """

    reasoning_tokens: Annotated[int, Field(ge=0)]


class ResponseUsage(ApiModel):
    """
    Token counts.
    """

    input_tokens: Annotated[int, Field(ge=0)]
    input_tokens_details: InputTokensDetails
    output_tokens: Annotated[int, Field(ge=0)]
    output_tokens_details: OutputTokensDetails
    total_tokens: Annotated[int, Field(ge=0)]


class DeletedResponse(ApiModel):
    """
    A response that was stored.
    """

    id: str
    object: Literal["response"]
    deleted: Literal[True]


class InputTokenCount(ApiModel):
    """
    How many tokens the model would read.
    """

    object: Literal["response.input_tokens"]
    input_tokens: int


class OutputItemAddedEvent(ApiModel):
    """
    An item begins.
    """

    type: Literal["response.output_item.added"]
    sequence_number: Annotated[int, Field(ge=0)]
    output_index: Annotated[int, Field(ge=0)]
    item: OutputItem


class OutputItemDoneEvent(ApiModel):
    """
    An item has ended.
    """

    type: Literal["response.output_item.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    output_index: Annotated[int, Field(ge=0)]
    item: OutputItem


class ContentPartAddedEvent(ApiModel):
    """
    A part of an item begins.
    """

    type: Literal["response.content_part.added"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    part: StreamedPart


class ContentPartDoneEvent(ApiModel):
    """
    A part of an item has ended.
    """

    type: Literal["response.content_part.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    part: StreamedPart


class OutputTextDeltaEvent(ApiModel):
    """
    More of a text.
    """

    type: Literal["response.output_text.delta"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    delta: str
    logprobs: list[TokenLogprobs]


class OutputTextDoneEvent(ApiModel):
    """
    A whole text.
    """

    type: Literal["response.output_text.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    text: str
    logprobs: list[TokenLogprobs]


class ReasoningTextDeltaEvent(ApiModel):
    """
    More of the reasoning.
    """

    type: Literal["response.reasoning_text.delta"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    delta: str


class ReasoningTextDoneEvent(ApiModel):
    """
    The whole reasoning.
    """

    type: Literal["response.reasoning_text.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    content_index: Annotated[int, Field(ge=0)]
    text: str


class FunctionCallArgumentsDeltaEvent(ApiModel):
    """
    More of the arguments of a call.
    """

    type: Literal["response.function_call_arguments.delta"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    delta: str


class FunctionCallArgumentsDoneEvent(ApiModel):
    """
    The whole arguments of a call.
    """

    type: Literal["response.function_call_arguments.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    name: str
    arguments: str


class CustomToolCallInputDeltaEvent(ApiModel):
    """
    More of the text for a custom tool.
    """

    type: Literal["response.custom_tool_call_input.delta"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    delta: str


class CustomToolCallInputDoneEvent(ApiModel):
    """
    The whole text for a custom tool.
    """

    type: Literal["response.custom_tool_call_input.done"]
    sequence_number: Annotated[int, Field(ge=0)]
    item_id: str
    output_index: Annotated[int, Field(ge=0)]
    input: str


InputTexts = TypeAliasType(
    "InputTexts", Annotated[list[str], Field(fail_fast=True, max_length=2048, min_length=1)]
)


InputTokensBatch = TypeAliasType(
    "InputTokensBatch", Annotated[list[PromptTokens], Field(fail_fast=True, max_length=2048, min_length=1)]
)


PoolingInput = TypeAliasType(
    "PoolingInput",
    Annotated[
        PromptTokens | InputTokensBatch | str | InputTexts,
        Field(description="A text, token ids, or a list of either."),
    ],
)


EmbeddingVector = TypeAliasType("EmbeddingVector", Annotated[list[float], Field(fail_fast=True)])


class Embedding(ApiModel):
    """
    One vector.
    """

    object: Literal["embedding"]
    index: int
    embedding: EmbeddingVector | str


class CohereErrorResponse(ApiModel):
    """
    The envelope of every error.
    """

    error: ErrorBody
    message: str
    detail: str


class TextObject(ApiModel):
    """
    A text with fields around it: the text is in `text`, or in `content` as text or as a list of parts; of a document, `rank_fields` may name other fields.
    """

    model_config = ConfigDict(extra="allow")


TextOrObject = TypeAliasType("TextOrObject", str | TextObject)


TextsOrObjects = TypeAliasType(
    "TextsOrObjects", Annotated[list[TextOrObject], Field(fail_fast=True, max_length=10000, min_length=1)]
)


class RerankedDocument(ApiModel):
    """
    What the model read of a document.
    """

    text: str


class RelevantSpans(ApiModel):
    """
    Whether the best places of each document are marked, and which.
    """

    mode: Literal["enabled", "disabled"]
    threshold: Annotated[float | None, Field(ge=0.0, le=1.0)] = None
    max_spans: Annotated[int | None, Field(ge=1, le=2147483647)] = None


class CohereRerankFields(ApiModel):
    """
    What Cohere's requests have beyond Jina's.
    """

    rank_fields: list[str] | None = None
    max_chunks_per_doc: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    relevant_spans: RelevantSpans | None = None


class RelevantSpan(ApiModel):
    """
    A place in a document that answers the query.
    """

    start: int
    end: int
    score: float


class CohereRerankResultFields(ApiModel):
    """
    What Cohere's results have beyond Jina's.
    """

    relevant_spans: list[RelevantSpan] | None = None


class CohereApiVersion(ApiModel):
    """
    Which version of the interface answered.
    """

    version: str
    is_deprecated: bool | None = None
    is_experimental: bool | None = None


class CohereBilledUnits(ApiModel):
    """
    What the answer would be counted as.
    """

    images: float | None = None
    input_tokens: float | None = None
    image_tokens: float | None = None
    text_tokens: float | None = None
    output_tokens: float | None = None
    search_units: float | None = None
    classifications: float | None = None
    pages: float | None = None


class CohereTokens(ApiModel):
    """
    Tokens of the request.
    """

    input_tokens: float | None = None
    output_tokens: float | None = None


class CohereMeta(ApiModel):
    """
    About the answer.
    """

    api_version: CohereApiVersion
    billed_units: CohereBilledUnits
    tokens: CohereTokens | None = None
    cached_tokens: float | None = None
    warnings: list[str] | None = None


CohereTexts = TypeAliasType(
    "CohereTexts", Annotated[list[str], Field(fail_fast=True, max_length=2048, min_length=1)]
)


CohereImages = TypeAliasType(
    "CohereImages", Annotated[list[str], Field(fail_fast=True, max_length=2048, min_length=1)]
)


class CohereTextPart(ApiModel):
    """
    A piece of text.
    """

    type: Literal["text"]
    text: str | None = None


class CohereImageUrl(ApiModel):
    """
    Where an image is.
    """

    url: str


class CohereImagePart(ApiModel):
    """
    An image.
    """

    type: Literal["image_url"]
    image_url: CohereImageUrl | None = None


CohereContentPart = TypeAliasType(
    "CohereContentPart", Annotated[CohereTextPart | CohereImagePart, Field(discriminator="type")]
)


CohereContentParts = TypeAliasType(
    "CohereContentParts", Annotated[list[CohereContentPart], Field(min_length=1)]
)


class CohereEmbedInput(ApiModel):
    """
    An input made of parts.
    """

    content: CohereContentParts


CohereEmbedInputs = TypeAliasType(
    "CohereEmbedInputs",
    Annotated[list[CohereEmbedInput], Field(fail_fast=True, max_length=2048, min_length=1)],
)


CohereEmbeddingType = TypeAliasType(
    "CohereEmbeddingType", Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
)


CohereEmbeddingTypes = TypeAliasType(
    "CohereEmbeddingTypes", Annotated[list[CohereEmbeddingType], Field(fail_fast=True, max_length=16)]
)


class CohereEmbedRequest(ApiModel):
    """
    Texts to turn into vectors, and the forms of the vectors.
    """

    model: str | None = None
    texts: CohereTexts | None = None
    images: CohereImages | None = None
    inputs: CohereEmbedInputs | None = None
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"] | None = (
        None
    )
    embedding_types: CohereEmbeddingTypes | None = None
    output_dimension: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    truncate: Literal["NONE", "START", "END"] | None = "END"
    priority: Annotated[int | None, Field(ge=-9223372036854775808, le=9223372036854775807)] = 0


class CohereImage(ApiModel):
    """
    An image that was read.
    """

    width: int
    height: int
    format: str
    bit_depth: int


CohereVector = TypeAliasType("CohereVector", Annotated[list[float], Field(fail_fast=True)])


CohereIntegers = TypeAliasType("CohereIntegers", Annotated[list[int], Field(fail_fast=True)])


CohereVectors = TypeAliasType("CohereVectors", Annotated[list[CohereVector], Field(fail_fast=True)])


CohereIntegerVectors = TypeAliasType(
    "CohereIntegerVectors", Annotated[list[CohereIntegers], Field(fail_fast=True)]
)


class CohereEmbeddings(ApiModel):
    """
    The vectors in each of the forms that were asked for.
    """

    float: CohereVectors | None = None
    int8: CohereIntegerVectors | None = None
    uint8: CohereIntegerVectors | None = None
    binary: CohereIntegerVectors | None = None
    ubinary: CohereIntegerVectors | None = None
    base64: list[str] | None = None


class CohereEmbedFloats(ApiModel):
    """
    Vectors by themselves.
    """

    response_type: Literal["embeddings_floats"]
    embeddings: CohereVectors
    id: str
    texts: list[str]
    images: list[CohereImage] | None = None
    meta: CohereMeta


class CohereEmbedByType(ApiModel):
    """
    Vectors by type.
    """

    response_type: Literal["embeddings_by_type"]
    embeddings: CohereEmbeddings
    id: str
    texts: list[str]
    images: list[CohereImage] | None = None
    meta: CohereMeta


CohereEmbedResponse = TypeAliasType("CohereEmbedResponse", CohereEmbedFloats | CohereEmbedByType)


class MessagesErrorBody(ApiModel):
    """
    What went wrong. type is the one clients of this protocol know, code and param say it exactly.
    """

    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "not_found_error",
        "request_too_large",
        "rate_limit_error",
        "timeout_error",
        "api_error",
        "overloaded_error",
    ]
    message: str
    param: str | None = None
    code: str | None = None


class MessagesErrorResponse(ApiModel):
    """
    The envelope of every error, also of one that ends a stream.
    """

    type: Literal["error"]
    error: MessagesErrorBody
    request_id: str | None


class MessageMetadata(ApiModel):
    """
    Whose request it is.
    """

    user_id: str | None = None


class McpServer(ApiModel):
    """
    A tool server.
    """

    model_config = ConfigDict(extra="allow")


class ThinkingEnabled(ApiModel):
    """
    The model thinks, up to a limit.
    """

    type: Literal["enabled"]
    budget_tokens: Annotated[int, Field(ge=1024, le=2147483647)]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(ApiModel):
    """
    The model thinks as much as it finds right.
    """

    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class ThinkingDisabled(ApiModel):
    """
    The model answers at once.
    """

    type: Literal["disabled"]


class ThinkingBetweenTools(ApiModel):
    """
    The model thinks between calls of tools.
    """

    type: Literal["between_tools"]


Thinking = TypeAliasType(
    "Thinking",
    Annotated[
        ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | ThinkingBetweenTools,
        Field(discriminator="type"),
    ],
)


class MessageJsonFormat(ApiModel):
    """
    JSON that follows a schema.
    """

    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]


class OutputConfig(ApiModel):
    """
    How much effort the answer is worth, and the form it must have.
    """

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: MessageJsonFormat | None = None


NonEmptyString = TypeAliasType("NonEmptyString", Annotated[str, Field(min_length=1)])


class CacheControl(ApiModel):
    """
    The end of a part that could be cached. Without effect; every common prefix is.
    """

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class CitationsConfig(ApiModel):
    """
    Whether the answer should cite.
    """

    enabled: bool | None = None


class TextBlock(ApiModel):
    """
    Text.
    """

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: list[dict[str, Any]] | None = None


TextBlocks = TypeAliasType("TextBlocks", Annotated[list[TextBlock], Field(fail_fast=True)])


class ImageBlock(ApiModel):
    """
    An image, for models that read them.
    """

    type: Literal["image"]
    source: dict[str, Any]
    transformations: dict[str, Any] | None = None
    cache_control: CacheControl | None = None


class PlainTextSource(ApiModel):
    """
    A document that is text.
    """

    type: Literal["text"]
    media_type: Literal["text/plain"] | None = None
    data: str


SourceBlock = TypeAliasType("SourceBlock", Annotated[TextBlock | ImageBlock, Field(discriminator="type")])


SourceBlocks = TypeAliasType("SourceBlocks", Annotated[list[SourceBlock], Field(fail_fast=True)])


class FileSource(ApiModel):
    """
    A document that would have to be read from a file, such as a PDF.
    """

    type: Literal["base64", "url", "file"]
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class SearchResultBlock(ApiModel):
    """
    Something that was found elsewhere.
    """

    type: Literal["search_result"]
    source: str
    title: str
    content: TextBlocks
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(ApiModel):
    """
    What the model thought before; the template decides whether it reads it again.
    """

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


class RedactedThinkingBlock(ApiModel):
    """
    Thoughts in a form only their author can read; left out.
    """

    type: Literal["redacted_thinking"]
    data: str | None = None


class ToolUseBlock(ApiModel):
    """
    An earlier call of a tool.
    """

    type: Literal["tool_use"]
    id: Annotated[str, Field(min_length=1)]
    name: Annotated[str, Field(min_length=1)]
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


class ToolReferenceBlock(ApiModel):
    """
    The name of a tool that was found by a search for tools.
    """

    type: Literal["tool_reference"]
    tool_name: str
    cache_control: CacheControl | None = None


class ServerBlock(ApiModel):
    """
    What Anthropic's servers did and found; refused, for the model here has not seen it.
    """

    model_config = ConfigDict(extra="allow")
    type: Literal[
        "server_tool_use",
        "web_search_tool_result",
        "web_fetch_tool_result",
        "code_execution_tool_result",
        "bash_code_execution_tool_result",
        "text_editor_code_execution_tool_result",
        "tool_search_tool_result",
        "container_upload",
        "mcp_tool_use",
        "mcp_tool_result",
    ]


class ClientTool(ApiModel):
    """
    A tool of the client's own.
    """

    type: Literal["custom"] | None = None
    name: Annotated[str, Field(max_length=128, min_length=1, pattern="^[a-zA-Z0-9_.-]+$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = False
    input_examples: list[dict[str, Any]] | None = None
    defer_loading: bool | None = None
    eager_input_streaming: bool | None = None
    allowed_callers: list[str] | None = None
    cache_control: CacheControl | None = None


class AnthropicTool(ApiModel):
    """
    A tool whose form, and often whose work, is known to Anthropic's models and servers only, such as web_search, code_execution, bash or memory. Left out, and named in the header x-skipped-tools.
    """

    model_config = ConfigDict(extra="allow")
    type: Annotated[str, Field(min_length=1)]
    name: str | None = None


MessageTool = TypeAliasType("MessageTool", ClientTool | AnthropicTool)


class AutoChoice(ApiModel):
    """
    The model decides.
    """

    type: Literal["auto"]
    disable_parallel_tool_use: bool | None = False


class AnyChoice(ApiModel):
    """
    Some tool is called.
    """

    type: Literal["any"]
    disable_parallel_tool_use: bool | None = False


class OneToolChoice(ApiModel):
    """
    This tool is called.
    """

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool | None = False


class NoToolChoice(ApiModel):
    """
    No tool is called.
    """

    type: Literal["none"]


MessageToolChoice = TypeAliasType(
    "MessageToolChoice",
    Annotated[AutoChoice | AnyChoice | OneToolChoice | NoToolChoice, Field(discriminator="type")],
)


class ReplyText(ApiModel):
    """
    Text.
    """

    type: Literal["text"]
    text: str
    citations: Annotated[None, Field(None)] = None


class ReplyThinking(ApiModel):
    """
    Thoughts of the model.
    """

    type: Literal["thinking"]
    thinking: str
    signature: str


class ReplyToolUse(ApiModel):
    """
    A call of a tool.
    """

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]
    caller: Annotated[None, Field(None)] = None
    toolset_name: Annotated[None, Field(None)] = None


ReplyBlock = TypeAliasType(
    "ReplyBlock", Annotated[ReplyText | ReplyThinking | ReplyToolUse, Field(discriminator="type")]
)


class MessageOutputDetails(ApiModel):
    """
    What the tokens of the answer were spent on.
    """

    thinking_tokens: Annotated[int, Field(ge=0)]


class MessageUsage(ApiModel):
    """
    Tokens of a request. What was read is the sum of the three kinds of input tokens.
    """

    input_tokens: Annotated[int, Field(ge=0)]
    cache_read_input_tokens: Annotated[int | None, Field(ge=0)] = None
    cache_creation_input_tokens: Annotated[int | None, Field(ge=0)] = None
    output_tokens: Annotated[int, Field(ge=0)]
    output_tokens_details: MessageOutputDetails | None = None
    service_tier: Literal["standard", "priority", "batch"] | None = None
    cache_creation: Annotated[None, Field(None)] = None
    server_tool_use: Annotated[None, Field(None)] = None
    inference_geo: Annotated[None, Field(None)] = None
    speed: Annotated[None, Field(None)] = None


MessageStopReason = TypeAliasType(
    "MessageStopReason",
    Annotated[
        Literal[
            "end_turn",
            "max_tokens",
            "stop_sequence",
            "tool_use",
            "pause_turn",
            "refusal",
            "model_context_window_exceeded",
        ],
        Field(
            description="Why the answer ended: the model was done, reached max_tokens, wrote one of stop_sequences, calls tools, or filled the context before max_tokens."
        ),
    ],
)


class MessageReply(ApiModel):
    """
    An answer.
    """

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ReplyBlock]
    stop_reason: MessageStopReason | None
    stop_sequence: str | None
    stop_details: Annotated[None, Field(None)] = None
    usage: MessageUsage
    container: Annotated[None, Field(None)] = None
    diagnostics: Annotated[None, Field(None)] = None


class ContextCount(ApiModel):
    """
    Tokens before anything was cleared, which is nothing.
    """

    original_input_tokens: Annotated[int, Field(ge=0)]


class MessageStart(ApiModel):
    """
    The answer begins; it has no content yet.
    """

    type: Literal["message_start"]
    message: MessageReply


class BlockStart(ApiModel):
    """
    A block begins; one is open at a time.
    """

    type: Literal["content_block_start"]
    index: Annotated[int, Field(ge=0)]
    content_block: ReplyBlock


class TextPiece(ApiModel):
    """
    More text.
    """

    type: Literal["text_delta"]
    text: str


class InputPiece(ApiModel):
    """
    More of the JSON text that is the input of a call.
    """

    type: Literal["input_json_delta"]
    partial_json: str


class ThinkingPiece(ApiModel):
    """
    More thoughts.
    """

    type: Literal["thinking_delta"]
    thinking: str


class SignaturePiece(ApiModel):
    """
    The signature of the thoughts, before their block ends.
    """

    type: Literal["signature_delta"]
    signature: str


BlockPiece = TypeAliasType(
    "BlockPiece",
    Annotated[TextPiece | InputPiece | ThinkingPiece | SignaturePiece, Field(discriminator="type")],
)


class BlockDelta(ApiModel):
    """
    More of the open block.
    """

    type: Literal["content_block_delta"]
    index: Annotated[int, Field(ge=0)]
    delta: BlockPiece


class BlockStop(ApiModel):
    """
    The open block is complete.
    """

    type: Literal["content_block_stop"]
    index: Annotated[int, Field(ge=0)]


class MessageEnd(ApiModel):
    """
    How the answer ended.
    """

    stop_reason: MessageStopReason
    stop_sequence: str | None
    stop_details: Annotated[None, Field(None)] = None
    container: Annotated[None, Field(None)] = None


class MessageDelta(ApiModel):
    """
    How the answer ended, and what it took.
    """

    type: Literal["message_delta"]
    delta: MessageEnd
    usage: MessageUsage


class MessageStop(ApiModel):
    """
    The last event.
    """

    type: Literal["message_stop"]


TokenId = TypeAliasType("TokenId", Annotated[int, Field(ge=0, le=2147483647)])


TokenIds = TypeAliasType("TokenIds", Annotated[list[TokenId], Field(fail_fast=True)])


SomeTokenIds = TypeAliasType("SomeTokenIds", Annotated[list[TokenId], Field(fail_fast=True, min_length=1)])


LogprobTokenIds = TypeAliasType(
    "LogprobTokenIds", Annotated[list[TokenId], Field(fail_fast=True, max_length=128)]
)


BadWord = TypeAliasType("BadWord", Annotated[str, Field(min_length=1)])


class SamplingExtras(ApiModel):
    """
    How tokens are chosen and when to stop, beyond the standard.
    """

    use_beam_search: bool = False
    top_k: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    min_p: Annotated[float | None, Field(ge=0.0, le=1.0)] = None
    repetition_penalty: Annotated[float | None, Field(gt=0.0)] = None
    length_penalty: float = 1.0
    stop_token_ids: TokenIds | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: Annotated[int, Field(ge=0, le=2147483647)] = 0
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    truncate_prompt_tokens: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    truncation_side: Literal["left", "right"] | None = None
    prompt_logprobs: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    logprob_token_ids: LogprobTokenIds | None = None
    allowed_token_ids: SomeTokenIds | None = None
    bad_words: Annotated[list[BadWord], Field(max_length=128)] = []
    watermarking: bool | None = None


NonEmptyText = TypeAliasType("NonEmptyText", Annotated[str, Field(min_length=1)])


NonEmptyTexts = TypeAliasType("NonEmptyTexts", Annotated[list[str], Field(fail_fast=True, min_length=1)])


class StructuredOutputs(ApiModel):
    """
    Exactly one constraint the output must meet, and options of it.
    """

    json_: Annotated[dict[str, Any] | NonEmptyText | None, Field(alias="json")] = None
    regex: str | None = None
    choice: NonEmptyTexts | None = None
    grammar: Annotated[str | None, Field(min_length=1)] = None
    json_object: bool | None = None
    structural_tag: Annotated[str | None, Field(min_length=1)] = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None


class LegacyExtras(ApiModel):
    """
    Older names that clients still send.
    """

    guided_json: dict[str, Any] | NonEmptyText | None = None
    guided_regex: str | None = None
    guided_choice: NonEmptyTexts | None = None
    guided_grammar: Annotated[str | None, Field(min_length=1)] = None
    guided_decoding_backend: str | None = None
    guided_whitespace_pattern: str | None = None
    early_stopping: bool | None = None
    logits_processors: list[Any] | None = None


class StructuralTagStructure(ApiModel):
    """
    A region of the output that follows a schema.
    """

    begin: str
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    end: str


class ResponseFormatStructuralTag(ApiModel):
    """
    Free text with constrained regions; either format, or the older structures with triggers.
    """

    type: Literal["structural_tag"]
    format: dict[str, Any] | None = None
    structures: list[StructuralTagStructure] | None = None
    triggers: list[str] | None = None


TemplateDocument = TypeAliasType("TemplateDocument", dict[str, str])
"""
A document the chat template can quote.
"""


class ChatTemplateExtras(ApiModel):
    """
    How messages become a prompt.
    """

    echo: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    documents: list[TemplateDocument] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None
    include_reasoning: bool = True
    return_prompt_text: bool | None = None


class ReasoningExtras(ApiModel):
    """
    Reasoning beside the answer, under its current and its older name.
    """

    reasoning: str | None = None
    reasoning_content: str | None = None


class PromptTextExtras(ApiModel):
    """
    The rendered prompt, when asked for.
    """

    prompt_text: str | None = None


class ThinkingPart(ApiModel):
    """
    Reasoning as a part of an assistant message.
    """

    type: Literal["thinking"]
    thinking: str
    closed: bool | None = None


class EarlierFunctionCall(ApiModel):
    """
    A function the model called before, and its arguments.
    """

    name: str
    arguments: str | dict[str, Any] | None = None


class EarlierFunctionToolCall(ApiModel):
    """
    A call of a function, earlier in the conversation.
    """

    id: str
    type: Literal["function"]
    function: EarlierFunctionCall


EarlierToolCall = TypeAliasType(
    "EarlierToolCall", Annotated[EarlierFunctionToolCall | CustomToolCall, Field(discriminator="type")]
)


ExtraInteger = TypeAliasType(
    "ExtraInteger", Annotated[int, Field(ge=-9223372036854775808, le=18446744073709551615)]
)


ExtraScalar = TypeAliasType("ExtraScalar", str | ExtraInteger | float)


ExtraScalars = TypeAliasType("ExtraScalars", Annotated[list[ExtraScalar], Field(fail_fast=True)])


ExtraArgument = TypeAliasType("ExtraArgument", ExtraScalar | ExtraScalars)


ExtraArguments = TypeAliasType("ExtraArguments", dict[str, ExtraArgument])
"""
Arguments for extensions of the engine.
"""


class RepetitionDetection(ApiModel):
    """
    End the output when a pattern of tokens repeats itself.
    """

    max_pattern_size: Annotated[int, Field(ge=0, le=2147483647)] = 0
    min_pattern_size: Annotated[int, Field(ge=0, le=2147483647)] = 0
    min_count: Annotated[int, Field(ge=2, le=2147483647)] = 2


class RequestExtras(ApiModel):
    """
    Constraints, identity, priority and reporting of a request.
    """

    structured_outputs: StructuredOutputs | None = None
    priority: Annotated[int, Field(ge=-9223372036854775808, le=9223372036854775807)] = 0
    request_id: Annotated[str | None, Field(min_length=1)] = None
    session_id: str | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    return_token_offsets: bool | None = None
    cache_salt: Annotated[str | None, Field(max_length=128, min_length=1, pattern="^[^@/\\\\\\x00]*$")] = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    vllm_xargs: ExtraArguments | None = None
    repetition_detection: RepetitionDetection | None = None
    thinking_token_budget: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    stream_interval: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    routed_experts_prompt_start: Annotated[int | None, Field(ge=0, le=2147483647)] = None
    mm_payload: Literal["tensors", "none"] | None = None
    return_mm_kwargs: bool | None = None


class StreamOptionsExtras(ApiModel):
    """
    What this server adds to the options of a stream.
    """

    continuous_usage_stats: bool = False


class PromptLogprob(ApiModel):
    """
    One candidate for a prompt token.
    """

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


PromptLogprobCandidates = TypeAliasType("PromptLogprobCandidates", dict[str, PromptLogprob])
"""
Token id to candidate.
"""


PromptLogprobs = TypeAliasType(
    "PromptLogprobs",
    Annotated[
        list[PromptLogprobCandidates | None],
        Field(
            description="One entry for each prompt token; nothing precedes the first, so its entry is null.",
            fail_fast=True,
        ),
    ],
)
"""
One entry for each prompt token; nothing precedes the first, so its entry is null.
"""


class PromptExtras(ApiModel):
    """
    What a reply can say about the prompt.
    """

    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


class ChoiceExtras(ApiModel):
    """
    What this server adds to a choice.
    """

    stop_reason: int | str | None = None
    token_ids: list[int] | None = None
    routed_experts: str | None = None


class RequestMetrics(ApiModel):
    """
    Timings of one request.
    """

    time_to_first_token_ms: float | None = None
    generation_time_ms: float | None = None
    queue_time_ms: float | None = None
    mean_itl_ms: float | None = None
    tokens_per_second: float | None = None
    speculative_decoding: dict[str, Any] | None = None


class ReplyExtras(ApiModel):
    """
    What this server adds to a whole reply.
    """

    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    metrics: RequestMetrics | None = None


MultimodalTokens = TypeAliasType("MultimodalTokens", dict[str, int])
"""
Prompt tokens per kind of media.
"""


class PromptTokensExtras(ApiModel):
    """
    What this server adds to the prompt's token counts.
    """

    created_cache_tokens: int | None = None
    multimodal_tokens: MultimodalTokens | None = None


class MediaExtras(ApiModel):
    """
    What any media part may carry.
    """

    uuid: str | None = None


class MediaUrl(ApiModel):
    """
    Where media are found.
    """

    url: str


class VideoUrlPart(MediaExtras):
    """
    A video.
    """

    type: Literal["video_url"]
    video_url: MediaUrl


class AudioUrlPart(MediaExtras):
    """
    Sound, by address.
    """

    type: Literal["audio_url"]
    audio_url: MediaUrl


class InputImagePart(MediaExtras):
    """
    An image, in the spelling of another endpoint.
    """

    type: Literal["input_image"]
    image_url: str


EmbeddedMedia = TypeAliasType(
    "EmbeddedMedia",
    Annotated[
        str | dict[str, Any],
        Field(description="An encoded tensor, or several by name with numbers that describe them."),
    ],
)


class ImageEmbedsPart(MediaExtras):
    """
    An image that is already embedded.
    """

    type: Literal["image_embeds"]
    image_embeds: EmbeddedMedia | None


class AudioEmbedsPart(MediaExtras):
    """
    Sound that is already embedded.
    """

    type: Literal["audio_embeds"]
    audio_embeds: EmbeddedMedia | None


class VideoEmbedsPart(MediaExtras):
    """
    A video that is already embedded.
    """

    type: Literal["video_embeds"]
    video_embeds: EmbeddedMedia | None


class PromptEmbedsPart(ApiModel):
    """
    A stretch of prompt that is already embedded.
    """

    type: Literal["prompt_embeds"]
    data: str


class ToolReferencePart(ApiModel):
    """
    Names a tool whose definition was held back.
    """

    type: Literal["tool_reference"]
    name: str


PromptEmbedsItems = TypeAliasType("PromptEmbedsItems", Annotated[list[str], Field(fail_fast=True)])


PromptEmbeds = TypeAliasType(
    "PromptEmbeds",
    Annotated[
        str | PromptEmbedsItems,
        Field(
            description="Embedded prompts, each a safetensors file in base64 with one tensor of tokens by hidden size. Needs a server that takes them."
        ),
    ],
)


class ResponseExtras(ApiModel):
    """
    Standard sampling fields of other endpoints, and the conversation as messages.
    """

    presence_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    frequency_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    seed: Annotated[int | None, Field(ge=-9223372036854775808, le=9223372036854775807)] = None
    stop: StopSequences | None = None
    logit_bias: LogitBias | None = None
    enable_response_messages: bool = False
    previous_input_messages: list[OpenObject] | None = None


class ResponseMessagesExtras(ApiModel):
    """
    The conversation as the model saw it, where enable_response_messages asks for it.
    """

    input_messages: list[OpenObject] | None = None
    output_messages: list[OpenObject] | None = None


class Version(ApiModel):
    """
    The running version.
    """

    version: str


class ModelPermission(ApiModel):
    """
    What may be done with a model; clients of older APIs expect the list.
    """

    id: str
    object: Literal["model_permission"]
    created: int
    allow_create_engine: bool
    allow_sampling: bool
    allow_logprobs: bool
    allow_search_indices: bool
    allow_view: bool
    allow_fine_tuning: bool
    organization: str
    group: str | None
    is_blocking: bool


class ModelExtras(ApiModel):
    """
    What this server adds to a model's description.
    """

    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    tasks: list[str] | None = None
    permission: list[ModelPermission] | None = None


class TokenizeResponse(ApiModel):
    """
    The tokens of a text or conversation.
    """

    count: Annotated[int, Field(ge=0)]
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


AnyTokenId = TypeAliasType("AnyTokenId", Annotated[int, Field(ge=0, le=9223372036854775807)])


class DetokenizeResponse(ApiModel):
    """
    The text of token ids.
    """

    prompt: str


class TokenizerInfo(ApiModel):
    """
    What the model's tokenizer_config.json says, with special tokens as plain text.
    """

    model_config = ConfigDict(extra="allow")
    tokenizer_class: str | None
    chat_template: str | None
    eos_token: str | None


class TemplateFindings(ApiModel):
    """
    What the server's chat template does with kinds of messages that a conversation can have.
    """

    content_format: Literal["string", "openai"]
    drops: list[str]
    refuses: list[str]


class RenderedPrompt(ApiModel):
    """
    What the engine would get for one prompt.
    """

    request_id: str
    model: str
    prompt_text: str | None
    token_ids: list[int]
    sampling_params: dict[str, Any]
    stream: bool
    cache_salt: str | None
    priority: int
    chat_template: TemplateFindings | None = None


class PoolingExtras(ApiModel):
    """
    How inputs are cut, what happens to the numbers, and which request this is.
    """

    truncate_prompt_tokens: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    truncation_side: Literal["left", "right"] | None = None
    padding: Literal["max_length", "do_not_pad"] | None = None
    use_activation: bool | None = None
    activation: bool | None = None
    normalize: bool | None = None
    softmax: bool | None = None
    priority: Annotated[int | None, Field(ge=-9223372036854775808, le=9223372036854775807)] = 0
    request_id: Annotated[str | None, Field(min_length=1)] = None
    cache_salt: Annotated[str | None, Field(max_length=128, min_length=1, pattern="^[^@/\\\\\\x00]*$")] = None
    mm_processor_kwargs: dict[str, Any] | None = None


class EndUserExtras(ApiModel):
    """
    Who asks.
    """

    user: str | None = None


class PoolingModelExtras(ApiModel):
    """
    Which model answers.
    """

    model: str | None = None


class VectorExtras(ApiModel):
    """
    How the numbers are written.
    """

    embed_dtype: Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"] | None = "float32"
    endianness: Literal["native", "little", "big"] | None = "native"


class PoolingReplyExtras(ApiModel):
    """
    What a reply says of itself.
    """

    id: str | None = None
    created: int | None = None


PooledRow = TypeAliasType("PooledRow", Annotated[list[float], Field(fail_fast=True)])


PooledRows = TypeAliasType("PooledRows", Annotated[list[PooledRow], Field(fail_fast=True)])


class PooledData(ApiModel):
    """
    What the model made of one input.
    """

    index: int
    object: Literal["pooling"]
    data: PooledRow | PooledRows | str


class ClassifiedText(ApiModel):
    """
    The class of one text.
    """

    index: int
    label: str | None
    probs: list[float]
    num_classes: Annotated[int, Field(ge=1)]


ScoredTexts = TypeAliasType(
    "ScoredTexts",
    Annotated[
        str | TextsOrObjects | TextObject,
        Field(description="A text, or a list of them; each as it is, or in an object."),
    ],
)


class PairExtras(ApiModel):
    """
    How two texts become the input of the model.
    """

    max_tokens_per_query: Annotated[int | None, Field(ge=0, le=2147483647)] = 0
    max_tokens_per_doc: Annotated[int | None, Field(ge=0, le=2147483647)] = 0
    instruction: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ScoreRequest(PoolingModelExtras, PairExtras, PoolingExtras, EndUserExtras):
    """
    Texts to compare; the first and the others under one of four pairs of names.
    """

    queries: ScoredTexts | None = None
    documents: ScoredTexts | None = None
    items: ScoredTexts | None = None
    data_1: ScoredTexts | None = None
    data_2: ScoredTexts | None = None
    text_1: ScoredTexts | None = None
    text_2: ScoredTexts | None = None


class Score(ApiModel):
    """
    How well one pair goes together.
    """

    index: int
    object: Literal["score"]
    score: float


class MessagesTemplateExtras(ApiModel):
    """
    How messages become a prompt.
    """

    chat_template_kwargs: dict[str, Any] | None = None


class MessagesExtras(ApiModel):
    """
    About the request rather than about the conversation.
    """

    cache_salt: Annotated[str | None, Field(max_length=128, min_length=1, pattern="^[^@/\\\\\\x00]*$")] = None
    kv_transfer_params: dict[str, Any] | None = None
    ec_transfer_params: dict[str, Any] | None = None
    vllm_xargs: ExtraArguments | None = None
    watermarking: bool | None = None


class LoadAdapterRequest(ApiModel):
    """
    Which adapter to load, and under what name.
    """

    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]
    load_inplace: bool = False
    is_3d_lora_weight: bool = False
    base_model_name: str | None = None


class UnloadAdapterRequest(ApiModel):
    """
    Which adapter to take away.
    """

    lora_name: Annotated[str, Field(min_length=1)]
    lora_int_id: Annotated[int | None, Field(ge=0, le=9223372036854775807)] = None


class AdapterChange(ApiModel):
    """
    What was done.
    """

    message: str


class RetrieveResponseQuery(ApiModel):
    """
    Query parameters of retrieve_response.
    """

    stream: bool = False
    starting_after: Annotated[int | None, Field(ge=0, le=2147483647)] = None
    include: list[Includable] = []
    include_obfuscation: bool = False


class ListResponseInputItemsQuery(ApiModel):
    """
    Query parameters of list_response_input_items.
    """

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    after: str | None = None
    include: list[Includable] = []


class PromptTokensDetails(PromptTokensExtras):
    """
    Where the prompt tokens came from.
    """

    cached_tokens: Annotated[int | None, Field(ge=0)] = None
    cache_write_tokens: Annotated[int | None, Field(ge=0)] = None
    audio_tokens: Annotated[int | None, Field(ge=0)] = None
    image_tokens: Annotated[int | None, Field(ge=0)] = None
    text_tokens: Annotated[int | None, Field(ge=0)] = None


class Usage(ApiModel):
    """
    Token counts of one request; prompt tokens count once, output tokens over all choices.
    """

    prompt_tokens: Annotated[int, Field(ge=0)]
    completion_tokens: Annotated[int, Field(ge=0)]
    total_tokens: Annotated[int, Field(ge=0)]
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None


class StreamOptions(StreamOptionsExtras):
    """
    How a stream looks; only together with stream.
    """

    include_usage: bool = False
    include_obfuscation: bool = False


class ImagePart(MediaExtras):
    """
    An image.
    """

    type: Literal["image_url"]
    image_url: ImageUrl
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


class AudioPart(MediaExtras):
    """
    Sound.
    """

    type: Literal["input_audio"]
    input_audio: InputAudio
    prompt_cache_breakpoint: PromptCacheBreakpoint | None = None


UserContentPart = TypeAliasType(
    "UserContentPart",
    Annotated[
        TextPart
        | ImagePart
        | AudioPart
        | FilePart
        | InputImagePart
        | VideoUrlPart
        | AudioUrlPart
        | ImageEmbedsPart
        | AudioEmbedsPart
        | VideoEmbedsPart
        | PromptEmbedsPart
        | ToolReferencePart,
        Field(discriminator="type"),
    ],
)


AssistantContentPart = TypeAliasType(
    "AssistantContentPart", Annotated[TextPart | RefusalPart | ThinkingPart, Field(discriminator="type")]
)


UserContentParts = TypeAliasType(
    "UserContentParts", Annotated[list[UserContentPart], Field(fail_fast=True, min_length=1)]
)


AssistantContentParts = TypeAliasType(
    "AssistantContentParts", Annotated[list[AssistantContentPart], Field(fail_fast=True, min_length=1)]
)


UserContent = TypeAliasType("UserContent", str | UserContentParts)


AssistantContent = TypeAliasType("AssistantContent", str | AssistantContentParts)


class UserMessage(ApiModel):
    """
    What the user says.
    """

    role: Literal["user"]
    name: str | None = None
    content: UserContent


class AssistantMessage(ReasoningExtras):
    """
    An earlier answer.
    """

    role: Literal["assistant"]
    name: str | None = None
    content: AssistantContent | None = None
    refusal: str | None = None
    audio: EarlierAudio | None = None
    tool_calls: list[EarlierToolCall] | None = None
    function_call: FunctionCall | None = None


ChatMessage = TypeAliasType(
    "ChatMessage",
    Annotated[
        DeveloperMessage | SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
        Field(discriminator="role"),
    ],
)


ResponseFormat = TypeAliasType(
    "ResponseFormat",
    Annotated[
        ResponseFormatText
        | ResponseFormatJsonObject
        | ResponseFormatJsonSchema
        | ResponseFormatStructuralTag,
        Field(discriminator="type"),
    ],
)


class ChatCompletionRequest(SamplingExtras, ChatTemplateExtras, RequestExtras, LegacyExtras):
    """
    A conversation to continue, and how.
    """

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    audio: AudioOptions | None = None
    frequency_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    function_call: LegacyFunctionChoice | None = None
    functions: LegacyFunctions | None = None
    logit_bias: LogitBias | None = None
    logprobs: bool | None = False
    max_completion_tokens: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    metadata: Metadata | None = None
    modalities: list[Literal["text", "audio"]] | None = None
    moderation: ModerationOptions | None = None
    n: Annotated[int | None, Field(ge=1, le=16384)] = 1
    parallel_tool_calls: bool = True
    prediction: Prediction | None = None
    presence_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    prompt_cache_key: str | None = None
    prompt_cache_options: PromptCacheOptions | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning_effort: ReasoningEffort | None = None
    response_format: ResponseFormat | None = None
    safety_identifier: str | None = None
    seed: Annotated[int | None, Field(ge=-9223372036854775808, le=9223372036854775807)] = None
    service_tier: ServiceTier | None = None
    stop: StopSequences | None = None
    store: bool | None = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    temperature: Annotated[float | None, Field(ge=0.0, le=2.0)] = None
    tool_choice: ToolChoice | None = None
    tools: Tools | None = None
    top_logprobs: Annotated[int | None, Field(ge=-1, le=2147483647)] = 0
    top_p: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    user: str | None = None
    verbosity: Literal["low", "medium", "high"] | None = "medium"
    web_search_options: WebSearchOptions | None = None


class ResponseMessage(ReasoningExtras):
    """
    The answer.
    """

    role: str
    content: str | None
    refusal: str | None
    annotations: list[Annotation] | None = None
    audio: ResponseAudio | None = None
    function_call: FunctionCall | None = None
    tool_calls: list[ToolCall] | None = None


class Choice(ChoiceExtras):
    """
    One of the answers.
    """

    index: int
    message: ResponseMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason


class ChatCompletion(PromptExtras, PromptTextExtras, ReplyExtras):
    """
    The whole answer.
    """

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    service_tier: ServiceTier | None = None
    system_fingerprint: str | None = None
    metadata: Metadata | None = None
    moderation: Moderation | None = None


class ChoiceDelta(ReasoningExtras):
    """
    What is new in an answer.
    """

    role: str | None = None
    content: str | None = None
    refusal: str | None = None
    audio: AudioDelta | None = None
    function_call: FunctionCallDelta | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(ChoiceExtras):
    """
    A piece of one of the answers.
    """

    index: int
    delta: ChoiceDelta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: FinishReason | None


class ChatCompletionChunk(PromptExtras, PromptTextExtras, ReplyExtras):
    """
    A piece of the stream; all pieces share id, created and model.
    """

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    service_tier: ServiceTier | None = None
    system_fingerprint: str | None = None
    moderation: Moderation | None = None
    obfuscation: str | None = None


class CompletionRequest(SamplingExtras, RequestExtras, LegacyExtras):
    """
    A prompt to continue, and how.
    """

    model: str | None = None
    prompt: Prompt | None = None
    best_of: Annotated[int | None, Field(ge=0, le=20)] = 1
    echo: bool | None = False
    frequency_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    logit_bias: LogitBias | None = None
    logprobs: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    max_tokens: Annotated[int | None, Field(ge=0, le=2147483647)] = 16
    n: Annotated[int | None, Field(ge=1, le=16384)] = 1
    presence_penalty: Annotated[float | None, Field(ge=-2.0, le=2.0)] = None
    seed: Annotated[int | None, Field(ge=-9223372036854775808, le=9223372036854775807)] = None
    stop: StopSequences | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: Annotated[float | None, Field(ge=0.0, le=2.0)] = None
    top_p: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    user: str | None = None
    response_format: ResponseFormat | None = None
    add_special_tokens: bool = True
    prompt_embeds: PromptEmbeds | None = None


class CompletionChoice(ChoiceExtras, PromptExtras):
    """
    One continuation, or in a stream a piece of it.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: CompletionFinishReason | None


class Completion(ReplyExtras):
    """
    The continuations; in a stream, pieces that share id, created and model.
    """

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    system_fingerprint: str | None = None


MessagePart = TypeAliasType(
    "MessagePart",
    Annotated[
        InputTextPart | EarlierTextPart | RefusalPart | ImageInputPart | FileInputPart | AudioPart,
        Field(discriminator="type"),
    ],
)


MessageParts = TypeAliasType("MessageParts", Annotated[list[MessagePart], Field(fail_fast=True)])


TextOrParts = TypeAliasType("TextOrParts", str | MessageParts)


class MessageParam(ApiModel):
    """
    A message. Items without a type are messages.
    """

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: TextOrParts
    id: str | None = None
    status: ItemStatus | None = None
    phase: MessagePhase | None = None


class FunctionCallOutputParam(ApiModel):
    """
    The result of a function the model called.
    """

    type: Literal["function_call_output"]
    call_id: str | None = None
    output: TextOrParts
    name: str | None = None
    namespace: str | None = None
    caller: OpenObject | None = None
    id: str | None = None
    status: ItemStatus | None = None


class CustomToolCallOutputParam(ApiModel):
    """
    The result of a custom tool the model called.
    """

    type: Literal["custom_tool_call_output"]
    call_id: str
    output: TextOrParts
    caller: OpenObject | None = None
    id: str | None = None
    status: ItemStatus | None = None


InputItem = TypeAliasType(
    "InputItem",
    MessageParam
    | FunctionCallParam
    | FunctionCallOutputParam
    | CustomToolCallParam
    | CustomToolCallOutputParam
    | ReasoningParam
    | ItemReference
    | OtherItem,
)


class ListedMessage(ApiModel):
    """
    A message of the input.
    """

    type: Literal["message"]
    id: str
    role: Literal["user", "assistant", "system", "developer"]
    status: ItemStatus
    content: MessageParts
    phase: MessagePhase | None = None


class ListedFunctionOutput(ApiModel):
    """
    The result of a function.
    """

    type: Literal["function_call_output"]
    id: str
    call_id: str | None
    output: TextOrParts
    name: str | None = None
    namespace: str | None = None
    status: ItemStatus


class ListedCustomOutput(ApiModel):
    """
    The result of a custom tool.
    """

    type: Literal["custom_tool_call_output"]
    id: str
    call_id: str
    output: TextOrParts
    status: ItemStatus


ListedItem = TypeAliasType(
    "ListedItem",
    ListedMessage
    | ReasoningItem
    | FunctionCallItem
    | CustomToolCallItem
    | ListedFunctionOutput
    | ListedCustomOutput
    | OtherItem,
)


class Response(ReplyExtras, ResponseMessagesExtras):
    """
    One answer with everything that led to it.
    """

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: ResponseStatus
    background: bool
    conversation: ConversationReference | None = None
    error: ResponseError | None
    incomplete_details: IncompleteDetails | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Metadata | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt: PromptReference | None = None
    prompt_cache_key: str | None
    prompt_cache_options: OpenObject | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: ReasoningOptions | None
    safety_identifier: str | None
    service_tier: ServiceTier | None
    store: bool
    temperature: float
    presence_penalty: float
    frequency_penalty: float
    text: TextOptions
    tool_choice: ResponseToolChoice
    tools: list[ResponseTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    usage: ResponseUsage | None
    user: str | None


class ItemList(ApiModel):
    """
    A page of items.
    """

    object: Literal["list"]
    data: list[ListedItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ResponseQueuedEvent(ApiModel):
    """
    The response waits to be made.
    """

    type: Literal["response.queued"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


class ResponseCreatedEvent(ApiModel):
    """
    The response begins.
    """

    type: Literal["response.created"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


class ResponseInProgressEvent(ApiModel):
    """
    The response is being made.
    """

    type: Literal["response.in_progress"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


class ResponseCompletedEvent(ApiModel):
    """
    The response is complete. The last event.
    """

    type: Literal["response.completed"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


class ResponseIncompleteEvent(ApiModel):
    """
    The response ended before it was complete. The last event.
    """

    type: Literal["response.incomplete"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


class ResponseFailedEvent(ApiModel):
    """
    Something went wrong. The last event.
    """

    type: Literal["response.failed"]
    sequence_number: Annotated[int, Field(ge=0)]
    response: Response


ResponseStreamEvent = TypeAliasType(
    "ResponseStreamEvent",
    Annotated[
        ResponseQueuedEvent
        | ResponseCreatedEvent
        | ResponseInProgressEvent
        | ResponseCompletedEvent
        | ResponseIncompleteEvent
        | ResponseFailedEvent
        | OutputItemAddedEvent
        | OutputItemDoneEvent
        | ContentPartAddedEvent
        | ContentPartDoneEvent
        | OutputTextDeltaEvent
        | OutputTextDoneEvent
        | ReasoningTextDeltaEvent
        | ReasoningTextDoneEvent
        | FunctionCallArgumentsDeltaEvent
        | FunctionCallArgumentsDoneEvent
        | CustomToolCallInputDeltaEvent
        | CustomToolCallInputDoneEvent,
        Field(discriminator="type"),
    ],
)


class Model(ModelExtras):
    """
    One served model.
    """

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    shutdown_date: str | None = None


class ModelList(ApiModel):
    """
    All served models.
    """

    object: Literal["list"]
    data: list[Model]


class RerankRequest(CohereRerankFields, PairExtras, PoolingExtras, EndUserExtras):
    """
    A query, and documents to sort by how well they answer it.
    """

    model: str | None = None
    query: TextOrObject
    documents: TextsOrObjects
    top_n: Annotated[int | None, Field(ge=0, le=2147483647)] = None
    return_documents: bool | None = True


class RerankResult(CohereRerankResultFields):
    """
    One document's number.
    """

    index: int
    relevance_score: float
    document: RerankedDocument | None = None


class BlockSource(ApiModel):
    """
    A document that is blocks.
    """

    type: Literal["content"]
    content: str | SourceBlocks


DocumentSource = TypeAliasType(
    "DocumentSource", Annotated[PlainTextSource | BlockSource | FileSource, Field(discriminator="type")]
)


class DocumentBlock(ApiModel):
    """
    A document. Its text is read; files are refused.
    """

    type: Literal["document"]
    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: CitationsConfig | None = None
    cache_control: CacheControl | None = None


ResultBlock = TypeAliasType(
    "ResultBlock",
    Annotated[
        TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolReferenceBlock,
        Field(discriminator="type"),
    ],
)


ResultBlocks = TypeAliasType("ResultBlocks", Annotated[list[ResultBlock], Field(fail_fast=True)])


class ToolResultBlock(ApiModel):
    """
    What a tool answered.
    """

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: str | ResultBlocks | None = None
    is_error: bool | None = False
    toolset_name: str | None = None
    cache_control: CacheControl | None = None


InputBlock = TypeAliasType(
    "InputBlock",
    Annotated[
        TextBlock
        | ImageBlock
        | DocumentBlock
        | SearchResultBlock
        | ThinkingBlock
        | RedactedThinkingBlock
        | ToolUseBlock
        | ToolResultBlock
        | ServerBlock,
        Field(discriminator="type"),
    ],
)


InputBlocks = TypeAliasType("InputBlocks", Annotated[list[InputBlock], Field(fail_fast=True)])


class MessageTurn(ApiModel):
    """
    What one side said.
    """

    role: Literal["user", "assistant", "system"]
    content: str | InputBlocks


class TokenCount(ApiModel):
    """
    Tokens of a conversation.
    """

    input_tokens: Annotated[int, Field(ge=0)]
    context_management: ContextCount | None = None


class TokenizeRequest(ApiModel):
    """
    Text, or a conversation and how the chat template writes it.
    """

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[ChatMessage] | None, Field(min_length=1)] = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    tools: list[Tool] | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(ApiModel):
    """
    Token ids to be read.
    """

    model: str | None = None
    tokens: list[AnyTokenId]


class RenderedPrompts(ApiModel):
    """
    What the engine would get, prompt by prompt.
    """

    object: Literal["list"]
    data: list[RenderedPrompt]


InputConversation = TypeAliasType(
    "InputConversation", Annotated[list[ChatMessage], Field(fail_fast=True, min_length=1)]
)


InputConversations = TypeAliasType(
    "InputConversations",
    Annotated[list[InputConversation], Field(fail_fast=True, max_length=2048, min_length=1)],
)


InputMessages = TypeAliasType(
    "InputMessages",
    Annotated[
        InputConversation | InputConversations, Field(description="A conversation, or a list of them.")
    ],
)


class InputExtras(ApiModel):
    """
    How texts become tokens, and conversations instead of texts.
    """

    messages: InputMessages | None = None
    add_special_tokens: bool | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: dict[str, Any] | None = None


class PoolingRequest(PoolingModelExtras, InputExtras, VectorExtras, PoolingExtras, EndUserExtras):
    """
    Texts, and what to make of them.
    """

    input: PoolingInput | None = None
    task: Literal["embed", "classify", "token_embed", "token_classify"] | None = None
    dimensions: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] | None = "float"


class PoolingUsageExtras(ApiModel):
    """
    What this server adds to token counts.
    """

    completion_tokens: Annotated[int | None, Field(ge=0)] = None
    prompt_tokens_details: PromptTokensDetails | None = None


class ClassifyRequest(PoolingModelExtras, InputExtras, PoolingExtras, EndUserExtras):
    """
    Texts to classify.
    """

    input: PoolingInput | None = None


InputItems = TypeAliasType("InputItems", Annotated[list[InputItem], Field(fail_fast=True)])


ResponseInput = TypeAliasType(
    "ResponseInput",
    Annotated[str | InputItems, Field(description="One message of the user, or items, oldest first.")],
)


class ResponseRequest(SamplingExtras, ChatTemplateExtras, RequestExtras, ResponseExtras):
    """
    Items to answer, and how.
    """

    access_programs: OpenObject | None = None
    background: bool | None = False
    context_management: list[ContextManagement] | None = None
    conversation: Conversation | None = None
    image: OpenObject | None = None
    include: Includables | None = None
    input: ResponseInput | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    max_tool_calls: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    metadata: Metadata | None = None
    model: str | None = None
    moderation: ModerationOptions | None = None
    parallel_tool_calls: bool | None = True
    previous_response_id: str | None = None
    prompt: PromptReference | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: OpenObject | None = None
    prompt_cache_retention: Literal["in_memory", "24h"] | None = None
    reasoning: ReasoningOptions | None = None
    safety_identifier: str | None = None
    service_tier: ServiceTier | None = None
    store: bool | None = True
    stream: bool | None = False
    stream_options: ResponseStreamOptions | None = None
    temperature: Annotated[float | None, Field(ge=0.0, le=2.0)] = None
    text: TextOptions | None = None
    tool_choice: ResponseToolChoice | None = None
    tools: ResponseTools | None = None
    top_logprobs: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    top_p: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    truncation: Literal["auto", "disabled"] | None = "disabled"
    user: str | None = None


class InputTokensRequest(ChatTemplateExtras):
    """
    Items whose tokens are counted.
    """

    conversation: Conversation | None = None
    input: ResponseInput | None = None
    instructions: str | None = None
    model: str | None = None
    parallel_tool_calls: bool | None = True
    personality: str | None = None
    previous_response_id: str | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    tool_choice: ResponseToolChoice | None = None
    tools: ResponseTools | None = None
    truncation: Literal["auto", "disabled"] | None = "disabled"


class EmbeddingRequest(InputExtras, VectorExtras, PoolingExtras):
    """
    Texts to turn into vectors, and how the vectors are sent.
    """

    model: str | None = None
    dimensions: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] | None = "float"
    user: str | None = None
    input: PoolingInput | None = None


class PoolingUsage(PoolingUsageExtras):
    """
    Token counts of one request.
    """

    prompt_tokens: Annotated[int, Field(ge=0)]
    total_tokens: Annotated[int, Field(ge=0)]


class EmbeddingList(PoolingReplyExtras):
    """
    The vectors, in the order of their inputs.
    """

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: PoolingUsage


class RerankResponse(ApiModel):
    """
    The documents, the best first; those with equal numbers in the order of the request.
    """

    id: str
    object: Literal["list"]
    model: str
    results: list[RerankResult]
    usage: PoolingUsage
    meta: CohereMeta


class MessagesPrompt(ApiModel):
    """
    What the model reads, and what it may do.
    """

    model: str | None = None
    messages: Annotated[list[MessageTurn], Field(max_length=100000, min_length=1)]
    system: str | TextBlocks | None = None
    tools: list[MessageTool] | None = None
    tool_choice: MessageToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: MessageJsonFormat | None = None
    cache_control: CacheControl | None = None
    context_management: dict[str, Any] | None = None
    mcp_servers: list[McpServer] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None


class MessagesRequest(MessagesPrompt, MessagesTemplateExtras, MessagesExtras):
    """
    A conversation to be answered.
    """

    max_tokens: Annotated[int, Field(ge=1, le=2147483647)]
    stop_sequences: Annotated[list[NonEmptyString] | None, Field(max_length=64)] = None
    stream: bool | None = False
    temperature: Annotated[float | None, Field(ge=0.0, le=2.0)] = None
    top_p: Annotated[float | None, Field(gt=0.0, le=1.0)] = None
    top_k: Annotated[int | None, Field(ge=-1, le=2147483647)] = None
    metadata: MessageMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: str | dict[str, Any] | None = None
    inference_geo: str | None = None
    diagnostics: dict[str, Any] | None = None


class CountTokensRequest(MessagesPrompt, MessagesTemplateExtras):
    """
    A conversation to be counted.
    """


class PoolingResponse(PoolingReplyExtras):
    """
    What the model made of the inputs, in their order.
    """

    object: Literal["list"]
    model: str
    data: list[PooledData]
    usage: PoolingUsage


class ClassifyResponse(ApiModel):
    """
    The classes of the texts, in their order.
    """

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[ClassifiedText]
    usage: PoolingUsage


class ScoreResponse(ApiModel):
    """
    The scores of the pairs, in their order.
    """

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Score]
    usage: PoolingUsage
