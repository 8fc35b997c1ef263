"""The model's tokenizer, read from its folder without importing transformers or torch.

`tokenizer.json` is the whole pipeline; `tokenizer_config.json`, `special_tokens_map.json` and the chat template
files add names. They are read as transformers' AutoTokenizer reads them (the tests compare with it), except that
`clean_up_tokenization_spaces` is not followed: it loses spaces, so that a stream could not agree with the whole.
A folder without `tokenizer.json` goes through AutoTokenizer itself, which costs seconds and imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from specserve.engine.api import Tokenizer, TokenSpelling
from specserve.engine.errors import ModelLoadError
from specserve.engine.registry import LazyRegistry
from specserve.engine.segments import SegmentEncoder, encode_alone, special_ids_of
from specserve.engine.token_lengths import max_chars_per_token

METASPACE = "▁"
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SELF_DESCRIBED_CLASSES = ("", "PreTrainedTokenizerFast", "PreTrainedTokenizer", "TokenizersBackend")
"""Names in `tokenizer_class` that bring no special tokens of their own."""
_FALLBACKS: LazyRegistry[Callable[[Path, bool], Tokenizer]] = LazyRegistry(
    {"transformers": "specserve.engine.transformers_tokenizer:load"}
)


def load_tokenizer(path: str | Path, *, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer in the model folder `path`. Raises ModelLoadError when none is there, or a damaged one."""
    folder = Path(path)
    if not folder.is_dir():
        raise ModelLoadError(f"{folder} is not a folder", "give the folder of a downloaded model")
    config = read_json(folder / "tokenizer_config.json")
    legacy_names = {} if "added_tokens_decoder" in config else read_json(folder / "special_tokens_map.json")
    config |= legacy_names
    names_tokens = any(name in config for name in NAMED_TOKENS)
    described = names_tokens or config.get("tokenizer_class", "") in SELF_DESCRIBED_CLASSES
    if not (folder / "tokenizer.json").is_file() or not described:
        return _FALLBACKS.load("transformers")(folder, trust_remote_code)
    try:
        backend = Backend.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises bare Exception
        raise ModelLoadError(
            f"{folder / 'tokenizer.json'} cannot be read: {error}", "download the model again"
        ) from error
    special_tokens, extra = _special_tokens(config)
    _add_tokens(backend, config, [*special_tokens.values(), *extra])
    return HuggingFaceTokenizer(
        backend,
        special_tokens={name: str(token) for name, token in special_tokens.items()},
        eos_token_ids=_eos_token_ids(backend, special_tokens.get("eos_token"), folder),
        chat_templates=read_chat_templates(folder, config),
        configuration=published_configuration(config),
        splits_special_tokens=bool(config.get("split_special_tokens")),
    )


class HuggingFaceTokenizer:
    """`api.Tokenizer` over the `tokenizers` library; thread-safe, and encoding releases the interpreter lock.

    `chat_templates` has all templates by name; `chat_template` is the one called default.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        special_tokens: dict[str, str],
        eos_token_ids: tuple[int, ...],
        chat_templates: dict[str, str],
        configuration: Mapping[str, Any],
        splits_special_tokens: bool = False,
    ) -> None:
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = splits_special_tokens
        self._backend = backend
        self.special_tokens = special_tokens
        self.eos_token_ids = eos_token_ids
        self.chat_templates = chat_templates
        self.configuration = configuration
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.spelling = _read_spelling(backend)
        self._anchor = _find_anchor(backend) if self.spelling is None else None
        special_ids = special_ids_of(backend)
        self.max_token_chars = max_chars_per_token(backend)
        self._spelled: dict[int, bytes] = {}  # tokens met so far
        self._segments = None if special_ids is None else SegmentEncoder(backend, special_ids)

    @property
    def chat_template(self) -> str | None:
        return self.chat_templates.get("default")

    def vocabulary_entry(self, token_id: int) -> str | None:
        entry: str | None = self._backend.id_to_token(token_id)
        return entry

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        if self._segments is None or add_special_tokens:
            return encode_alone(self._backend, text, add_special_tokens=add_special_tokens)
        return self._segments.encode(text)

    def encode_with_starts(self, text: str, *, add_special_tokens: bool) -> tuple[list[int], list[int]]:
        # Batches release the interpreter lock.
        found = self._backend.encode_batch([text], add_special_tokens=add_special_tokens)[0]
        starts, end = [], 0
        for token_start, token_end in found.offsets:
            # Trimmed white space leaves a gap; parts of one character, and a space put in, all span that character.
            starts.append(min(token_start, end) if token_end else end)
            end = max(end, token_end)
        return found.ids, starts

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[list[int]]:
        found = self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        return [one.ids for one in found]

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        found = self._backend.encode_batch_fast([(first, second)], add_special_tokens=True)[0]
        return found.ids, found.type_ids

    def num_special_tokens(self, *, is_pair: bool) -> int:
        count: int = self._backend.num_special_tokens_to_add(is_pair)
        return count

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        text: str = self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens)
        return text

    def token_text(self, token_id: int) -> str:
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        spelled = self._spelled.get(token_id)
        if spelled is None:
            spelled = self._spelled[token_id] = self._spell(token_id)
        return spelled

    def _spell(self, token_id: int) -> bytes:
        token: str | None = self._backend.id_to_token(token_id)
        if token is None:
            return b""
        if self.spelling is None:
            return self._text_behind_anchor(token_id).encode("utf-8")
        if self.spelling.byte_ids is None:
            return _byte_level_bytes(token)
        if token_id in self.spelling.byte_ids:
            return bytes([int(token[3:5], 16)])
        return token.replace(METASPACE, " ").encode("utf-8")

    def _text_behind_anchor(self, token_id: int) -> str:
        """A token's text in the middle of others: with the space that the beginning of a text would lose."""
        if self._anchor is not None:
            before = self.decode([self._anchor])
            both = self.decode([self._anchor, token_id])
            if both.startswith(before):
                return both[len(before) :]
        return self.decode([token_id])


def read_json(file: Path) -> dict[str, Any]:
    """An object from a file that may be missing. Raises ModelLoadError for anything else."""
    if not file.is_file():
        return {}
    try:
        value = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ModelLoadError(f"{file} is not JSON: {error}", "download the model again") from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{file} holds no JSON object", "download the model again")
    return value


def published_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """`Tokenizer.configuration` from the content of tokenizer_config.json, or what transformers made of it."""
    hidden = ("chat_template", "name_or_path")
    found = {name: value for name, value in config.items() if name not in hidden and not name.endswith("_file")}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    """A token with its properties becomes its text; everything else stays, as far as JSON can say it."""
    if isinstance(value, AddedToken):
        return str(value.content)
    if isinstance(value, dict):
        is_token = value.get("__type") == "AddedToken" or {"content", "lstrip", "rstrip"} <= value.keys()
        return value["content"] if is_token else {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | bool | int | float | None) else str(value)


def read_chat_templates(folder: Path, config: dict[str, Any]) -> dict[str, str]:
    """Chat templates by name. Files of their own replace what stands in the configuration."""
    files = {"default": folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted(folder.glob("additional_chat_templates/*.jinja"))}
    found = {name: file.read_text("utf-8") for name, file in files.items() if file.is_file()}
    configured = config.get("chat_template")
    if found or configured is None:
        return found
    if isinstance(configured, str):
        return {"default": configured}
    if isinstance(configured, dict):
        return dict(configured)
    return {template["name"]: template["template"] for template in configured}


def read_generation_eos(folder: Path) -> list[int]:
    """End tokens that `generation_config.json` names besides the tokenizer's own."""
    named = read_json(folder / "generation_config.json").get("eos_token_id")
    return [] if named is None else [named] if isinstance(named, int) else list(named)


def _special_tokens(config: dict[str, Any]) -> tuple[dict[str, AddedToken | str], list[AddedToken | str]]:
    """The named special tokens, and further ones without a name of their own."""
    added = {token["content"]: token for token in config.get("added_tokens_decoder", {}).values()}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    named = {name: config[name] for name in NAMED_TOKENS if config.get(name) is not None}
    own = {name: config[name] for name in config if name.endswith("_token") and name not in NAMED_TOKENS}
    if isinstance(extra, dict):
        own, extra = own | extra, []
    named |= {name: token for name, token in own.items() if isinstance(token, str | dict)}
    return {name: _token(token, added) for name, token in named.items()}, [_token(t, added) for t in extra]


def _token(written: Any, added: dict[str, Any]) -> AddedToken | str:
    """A special token as the configuration writes it: its text, or with its properties."""
    if isinstance(written, str) and written in added:
        written = added[written]
    if isinstance(written, str):
        return written
    properties = {key: value for key, value in written.items() if key not in ("__type", "special")}
    return AddedToken(**properties, special=True)


def _add_tokens(backend: Backend, config: dict[str, Any], special: Sequence[AddedToken | str]) -> None:
    """Add what the configuration names and `tokenizer.json` lacks; ids follow the vocabulary's."""
    listed = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
    tokens = [AddedToken(**properties) for _, properties in listed]
    known = {str(token.content) for token in backend.get_added_tokens_decoder().values()}
    known |= {str(token.content) for token in tokens}
    tokens += [
        AddedToken(token, special=True) if isinstance(token, str) else token
        for token in special
        if str(token) not in known
    ]
    if tokens:
        backend.add_tokens(tokens)


def _eos_token_ids(backend: Backend, eos_token: AddedToken | str | None, folder: Path) -> tuple[int, ...]:
    own = None if eos_token is None else backend.token_to_id(str(eos_token))
    return tuple(dict.fromkeys([*([] if own is None else [own]), *read_generation_eos(folder)]))


def _read_spelling(backend: Backend) -> TokenSpelling | None:
    """Recognize the two decoders of which each token can be decoded for itself."""
    if backend.decoder is None:
        return None
    decoder = json.loads(backend.decoder.__getstate__())
    steps = decoder.get("decoders", [decoder])
    special_ids = frozenset(
        token_id
        for token_id in backend.get_added_tokens_decoder()
        if not backend.decode([token_id] * 3, skip_special_tokens=True)  # a lone space might be stripped
    )
    match [step["type"] for step in steps]:
        case ["ByteLevel"]:
            return TokenSpelling(special_ids=special_ids, byte_ids=None)
        case ["Replace", "ByteFallback", "Fuse", *rest] if rest in ([], ["Strip"]):
            if (steps[0]["pattern"], steps[0]["content"]) != ({"String": METASPACE}, " "):
                return None
            strip: dict[str, Any] = steps[3] if rest else {"content": " ", "start": 0, "stop": 0}
            if (strip["content"], strip["stop"]) != (" ", 0):
                return None
            return TokenSpelling(
                special_ids=special_ids,
                byte_ids=frozenset(
                    token_id for byte in range(256) if (token_id := backend.token_to_id(f"<0x{byte:02X}>")) is not None
                ),
                num_stripped_spaces=strip["start"],
            )
    return None


def _find_anchor(backend: Backend) -> int | None:
    """A token that is a plain word or letter wherever it stands."""
    for token_id in range(min(backend.get_vocab_size(), 10_000)):
        text: str = backend.decode([token_id], skip_special_tokens=True)
        if text.isascii() and text.isalnum():
            return token_id
    return None


def _byte_alphabet() -> dict[str, int]:
    """How byte-level vocabularies write bytes: printable Latin-1 for itself, 256 and upwards for the rest.

    Source: Radford et al. 2019 (GPT-2), the published encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in printable)
    return alphabet | {chr(256 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _byte_alphabet()


def _byte_level_bytes(token: str) -> bytes:
    try:
        return bytes([_BYTE_OF[character] for character in token])
    except KeyError:  # an added token with other characters stands for itself
        return token.encode("utf-8")
