// What a user of @huggingface/inference writes. Arguments: the server's URL, a picture.
// Prints one JSON object: case -> [content type, first bytes in hex, length].
import { readFile, writeFile } from "node:fs/promises";
import { InferenceClient } from "@huggingface/inference";

const [url, path, out] = process.argv.slice(2);
const picture = new Blob([await readFile(path)]);
const fast = new InferenceClient().endpoint(`${url}/models/upscale-fast`);
const style = new InferenceClient().endpoint(`${url}/models/style`);
const result = {};

async function keep(name, call) {
  try {
    const blob = await call();
    const bytes = Buffer.from(await blob.arrayBuffer());
    await writeFile(`${out}/${name}`, bytes);
    result[name] = [blob.type, bytes.length];
  } catch (error) {
    result[name] = ["error", `${error.message} ${JSON.stringify(error.httpResponse?.body ?? null)}`];
  }
}

await keep("plain", () => fast.imageToImage({ inputs: picture }));
await keep("scale", () => fast.imageToImage({ inputs: picture, parameters: { scale: 2 } }));
await keep("size", () =>
  fast.imageToImage({ inputs: picture, parameters: { target_size: { width: 100, height: 60 } } }),
);
await keep("style", () =>
  style.imageToImage({ inputs: picture, parameters: { prompt: "a painting", style: "starry" } }),
);
await keep("wrong", () => fast.imageToImage({ inputs: picture, parameters: { scale: 7 } }));
process.stdout.write(JSON.stringify(result));
