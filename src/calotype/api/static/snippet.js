/** The same request as a program: pure text, ready to run. */

import { isPicture, isTable } from "./run.js";

/**
 * @typedef {object} Request
 * @property {string} url of the model
 * @property {string} input file name of the picture
 * @property {string} output file name of the result
 * @property {any} values parameters; pictures among them as {blob, name}
 * @property {boolean} hasToken
 */

const text = JSON.stringify;
const isWord = (name) => /^[A-Za-z_]\w*$/.test(name);

/** Quote for a POSIX shell, if need be. */
const shell = (word) => (/^[\w./:+=@,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
/** A name that can't be taken for an option, or for standard input. */
const path = (name) => (name.startsWith("-") ? `./${name}` : name);

/**
 * With curl.
 * @param {Request} request
 */
export function curl({ url, input, output, values, hasToken }) {
	const send = `curl ${hasToken ? '-H "Authorization: Bearer $TOKEN" ' : ""}--data-binary`;
	const target = `${shell(url)} -o ${shell(path(output))}`;
	if (!Object.keys(values).length) return `${send} ${shell(`@${path(input)}`)} ${target}`;
	const files = [input];
	// printf takes % and \ for itself, the shell takes '. A picture's place is a %s.
	const escape = (value) => text(value).replaceAll("\\", "\\\\").replaceAll("%", "%%").replaceAll("'", "'\\''");
	function write(value) {
		if (isTable(value)) return `{${Object.entries(value).map(([name, part]) => `${escape(name)}: ${write(part)}`).join(", ")}}`;
		if (!isPicture(value)) return escape(value);
		files.push(value.name);
		return '"%s"';
	}
	const format = `{"inputs": "%s", "parameters": ${write(values)}}`;
	const sources = files.map((name) => `"$(base64 < ${shell(path(name))} | tr -d '\\n')"`);
	return `printf '${format}' \\\n  ${sources.join(" \\\n  ")} |\n  ${send} @- ${target}`;
}

/** A literal of Python or JavaScript, which share JSON's strings and numbers. */
function literal(value, isPython, picture) {
	if (isPicture(value)) return picture(text(value.name));
	if (Array.isArray(value)) return `[${value.map((part) => literal(part, isPython, picture)).join(", ")}]`;
	if (!isTable(value)) return (isPython && { true: "True", false: "False", null: "None" }[value]) || text(value);
	const key = (name) => (isPython || !isWord(name) ? text(name) : name);
	const pairs = Object.entries(value).map(([name, part]) => `${key(name)}: ${literal(part, isPython, picture)}`);
	return isPython ? `{${pairs.join(", ")}}` : `{ ${pairs.join(", ")} }`;
}

/**
 * With huggingface_hub.
 * @param {Request} request
 */
export function python({ url, input, output, values, hasToken }) {
	let hasPictures = false;
	const write = (value) => literal(value, true, (name) => {
		hasPictures = true;
		return `encoded(${name})`;
	});
	const named = Object.entries(values).map(([name, value]) =>
		`    ${isWord(name) ? `${name}=${write(value)}` : `**${write({ [name]: value })}`},\n`);
	const rest = named.length ? `\n    ${text(input)},\n${named.join("")}` : text(input);
	const encoded = hasPictures ? "\n\ndef encoded(path):\n    return base64.b64encode(Path(path).read_bytes()).decode()\n\n" : "";
	const imports = [hasPictures && "import base64", hasToken && "import os", hasPictures && "from pathlib import Path"].filter(Boolean);
	return `${imports.length ? `${imports.join("\n")}\n\n` : ""}from huggingface_hub import InferenceClient
${encoded}
client = InferenceClient(model=${text(url)}${hasToken ? ', token=os.environ["TOKEN"]' : ""})
picture = client.image_to_image(${rest})
picture.save(${text(output)})`;
}

/**
 * With @huggingface/inference, on Node.
 * @param {Request} request
 */
export function javascript({ url, input, output, values, hasToken }) {
	const write = (value) => literal(value, false, (name) => `await readFile(${name}, "base64")`);
	const pairs = Object.entries(values).map(([name, value]) => `    ${isWord(name) ? name : text(name)}: ${write(value)},\n`);
	return `import { readFile, writeFile } from "node:fs/promises";
import { InferenceClient } from "@huggingface/inference";

const client = new InferenceClient(${hasToken ? "process.env.TOKEN" : ""});
const model = client.endpoint(${text(url)});
const result = await model.imageToImage({
  inputs: new Blob([await readFile(${text(input)})]),${pairs.length ? `\n  parameters: {\n${pairs.join("")}  },` : ""}
});
await writeFile(${text(output)}, Buffer.from(await result.arrayBuffer()));`;
}
