/** A picture, or two laid over each other with a line between before and after. */

import { h } from "./dom.js";
import { text } from "./text.js";
import { View } from "./view.js";

const KEYS = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 };

const after = h("img.layer#result-image", { draggable: "false" });
const before = h("img.layer", { alt: "", draggable: "false" });
const clip = h("div.clip", before);
const handle = h("div.handle#compare", { role: "slider", tabindex: 0, "aria-label": text.view.compare, "aria-valuemin": 0, "aria-valuemax": 100 });
const tags = [h("span.tag", text.view.before), h("span.tag", text.view.after)];
const box = h("div.box", { tabindex: 0, role: "group", "aria-label": text.view.area }, after, clip, tags, handle);
const view = new View(box, { render });
let split = 0.5;

/** What is shown, and its buttons. */
export const compare = h("div", box, h("div.row.toolbar", view.buttons()));

// The line moves over what is seen of the picture, however far it is zoomed.
const seen = () => [Math.max(0, view.x), Math.min(box.clientWidth, view.x + view.width * view.scale)];

function render() {
	view.lay(after);
	view.lay(before);
	const [left, right] = seen();
	const at = left + split * (right - left);
	clip.style.clipPath = `inset(0 calc(100% - ${at}px) 0 0)`;
	handle.style.left = `${at}px`;
	handle.setAttribute("aria-valuenow", Math.round(100 * split));
}

function moveTo(event, share) {
	event.preventDefault();
	event.stopPropagation();
	split = Math.min(1, Math.max(0, share));
	render();
}

handle.addEventListener("pointerdown", (event) => {
	event.stopPropagation();
	handle.setPointerCapture(event.pointerId);
});
handle.addEventListener("pointermove", (event) => {
	if (!handle.hasPointerCapture(event.pointerId)) return;
	const [left, right] = seen();
	moveTo(event, (view.inBox(event)[0] - left) / (right - left));
});
handle.addEventListener("keydown", (event) => event.key in KEYS && moveTo(event, split + KEYS[event.key]));
box.addEventListener("keydown", (event) => view.key(event, true));

/**
 * Show a picture, with another that it came from.
 * @param {{url: string, width: number, height: number}} picture
 * @param {string} alt
 * @param {string|null} [beforeUrl]
 */
export function showPicture(picture, alt, beforeUrl) {
	after.src = picture.url;
	after.alt = alt;
	if (beforeUrl) before.src = beforeUrl;
	for (const part of [clip, handle, ...tags]) part.hidden = !beforeUrl;
	split = 0.5;
	view.setSize(picture);
}
