/** The picture to work on: dropped, pasted, chosen (a phone offers its camera too), or a sample. */

import { byId, emit, fileButton, h, takeDrops } from "./dom.js";
import { bytes, pixels, text } from "./text.js";

const words = text.picture;
const SAMPLES = { "sample-photo.webp": words.photo, "sample-gray.jpg": words.gray };

/**
 * @typedef {object} Picture
 * @property {Blob} blob
 * @property {string} name
 * @property {string} url of the blob
 * @property {boolean} shown whether the browser can show it
 * @property {number} width px; 1 if it is not shown
 * @property {number} height
 */
/** @type {Picture|null} */
let picture = null;
let turn = 0;

const thumb = h("div.thumb");
const facts = h("p.help#picture-facts", words.how);
const chooser = fileButton(".primary", words.choose, setFile, { icon: "upload", id: "file" });
const samples = Object.entries(SAMPLES).map(([file, label]) =>
	h("button.sample", { type: "button", title: label, onclick: () => takeSample(file) },
		h("img", { src: `page/${file}`, alt: label, width: 56, height: 40 })));
byId("picture").append(
	h("div.dropzone", thumb, h("div", h("div.row", chooser), facts)),
	h("p.row.samples.help", h("span", words.samples), samples));
takeDrops(document.documentElement, setFile);
document.addEventListener("paste", (event) => {
	const [file] = event.clipboardData?.files ?? [];
	if (file) setFile(file);
});

/** The picture, if there is one. */
export const currentPicture = () => picture;

/**
 * Read how large a picture is, as it is shown; the browser need not decode it for that.
 * @param {Blob} blob
 * @returns {Promise<{url: string, shown: boolean, width: number, height: number}>}
 */
export function measure(blob) {
	const url = URL.createObjectURL(blob);
	const image = new Image();
	return new Promise((resolve) => {
		image.onload = () => resolve({ url, shown: true, width: image.naturalWidth, height: image.naturalHeight });
		image.onerror = () => resolve({ url, shown: false, width: 1, height: 1 });
		image.src = url;
	});
}

/**
 * Take another picture.
 * @param {Blob} blob
 * @param {string} name
 */
export async function setPicture(blob, name) {
	const mine = ++turn;
	const size = await measure(blob);
	// Another came meanwhile.
	if (mine !== turn) return URL.revokeObjectURL(size.url);
	if (picture) URL.revokeObjectURL(picture.url);
	picture = { blob, name, ...size };
	const about = size.shown ? `${pixels(size)}, ${bytes(blob.size)}` : `${bytes(blob.size)}. ${words.unseen}`;
	facts.replaceChildren(h("strong", name), h("br"), about);
	thumb.replaceChildren(size.shown ? h("img", { src: size.url, alt: "" }) : "?");
	chooser.querySelector("span").textContent = words.replace;
	chooser.classList.remove("primary");
	emit("picture");
}

function setFile(file) {
	if (file) setPicture(file, file.name || words.pasted);
}

async function takeSample(file) {
	// A server that is gone is told of by the next run.
	const answer = await fetch(`page/${file}`).catch(() => null);
	if (answer?.ok) setPicture(await answer.blob(), file);
}
