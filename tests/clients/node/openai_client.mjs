// OpenAI's client for JavaScript against the server in SERVER; prints what it found as one JSON object.
import OpenAI from "openai";

const model = process.env.MODEL;
const client = new OpenAI({ baseURL: process.env.SERVER, apiKey: process.env.KEY, maxRetries: 0 });
const france = [{ role: "user", content: "What is the capital of France?" }];
const boston = [{ role: "user", content: "What's the weather in Boston?" }];
const parameters = { type: "object", properties: { location: { type: "string" } }, required: ["location"] };
const tool = { type: "function", function: { name: "get_weather", parameters } };
const found = {};

found.whole = (await client.chat.completions.create({ model, messages: france })).choices[0].message.content;

const stream = client.chat.completions.stream({ model, messages: france, stream_options: { include_usage: true } });
let grown = "";
stream.on("content", (delta) => (grown += delta));
const final = await stream.finalChatCompletion();
found.streamed = [grown, final.choices[0].message.content, final.choices[0].finish_reason];
found.usage = final.usage.total_tokens === final.usage.prompt_tokens + final.usage.completion_tokens;

const call = await client.chat.completions.stream({ model, messages: boston, tools: [tool] }).finalChatCompletion();
const made = call.choices[0].message.tool_calls[0].function;
found.call = [call.choices[0].finish_reason, made.name, JSON.parse(made.arguments)];

const asked = [];
const runner = client.chat.completions.runTools({
  model,
  messages: boston,
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "The weather at a place",
        parameters,
        parse: JSON.parse,
        function: ({ location }) => {
          asked.push(location);
          return "sunny";
        },
      },
    },
  ],
});
found.loop = [asked, await runner.finalContent()];

const responses = client.responses.stream({ model, input: france });
const kinds = [];
responses.on("event", (event) => kinds.push(event.type));
const response = await responses.finalResponse();
found.response = [response.status, response.output_text, kinds[0], kinds.at(-1)];
found.kept = (await client.responses.retrieve(response.id)).output_text;

const answered = await client.responses.create({
  model,
  input: boston,
  tools: [{ type: "function", name: "get_weather", parameters, strict: false }],
});
found.responseCall = answered.output.filter((item) => item.type === "function_call").map((item) => item.name);

const controller = new AbortController();
const long = await client.chat.completions.create(
  { model, messages: [{ role: "user", content: "Tell me a long story" }], stream: true },
  { signal: controller.signal },
);
let pieces = 0;
for await (const piece of long) {
  if (piece.choices[0]?.delta.content && ++pieces === 2) controller.abort();
}
found.aborted = [controller.signal.aborted, pieces];

for (const [name, options] of [
  ["unknown", { model: "not-here", messages: france }],
  ["wrong", { model, messages: france, temperature: 3 }],
]) {
  try {
    await client.chat.completions.create(options);
  } catch (error) {
    found[name] = [error.constructor.name, error.status, error.code, error.param];
  }
}
console.log(JSON.stringify(found));
