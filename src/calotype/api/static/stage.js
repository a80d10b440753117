/** The right side: the picture, the mask over it, the preview, and the result. */

import { compare, showPicture } from "./compare.js";
import { byId, h, segments } from "./dom.js";
import { painter, paintOn } from "./painter.js";
import { currentPicture, measure } from "./picture.js";
import { text } from "./text.js";

const VIEWS = ["picture", "mask", "result"];
const empty = h("p.empty");
const preview = h("img.preview#preview", { alt: text.run.preview });
const tabs = segments(text.view.which, VIEWS.map((view) => [`view-${view}`, text.view[view]]));
tabs.addEventListener("input", (event) => show(event.target.id.slice(5)));
byId("stage").append(tabs, h("div.views", empty, compare, painter, preview), h("div#facts"));

let isMasking = false;
/** What came back: addresses, size, and what it is called. */
let result = null;

function show(view) {
	const picture = currentPicture();
	const isResult = view === "result";
	const canShow = (isResult ? result : picture)?.shown;
	empty.hidden = canShow;
	empty.textContent = isResult ? text.result.unseen : !picture ? text.picture.empty : isMasking ? text.mask.unseen : text.picture.unseen;
	painter.hidden = view !== "mask" || !canShow;
	compare.hidden = view === "mask" || !canShow;
	byId("facts").hidden = !isResult;
	const offered = { picture: picture && !isMasking, mask: picture && isMasking, result };
	for (const name of VIEWS) {
		const input = byId(`view-${name}`);
		input.checked = name === view;
		input.parentElement.hidden = !offered[name];
	}
	tabs.hidden = !picture || !result;
	if (compare.hidden) return;
	if (isResult) showPicture(result, result.alt, result.before.shown ? result.before.url : null);
	else showPicture(picture, text.picture.alt);
}

const showWork = () => show(isMasking ? "mask" : "picture");

/** Show the picture to work on. */
export function showInput() {
	paintOn(currentPicture());
	showWork();
}

/**
 * Let the visitor paint a mask, or not.
 * @param {boolean} masking
 * @param {any} old whether a run is restored
 */
export function setMasking(masking, old) {
	if (masking === isMasking) return;
	isMasking = masking;
	if (byId("view-result").checked && (old || !masking)) show("result");
	else showWork();
}

/**
 * Show a result over what it came from.
 * @param {Blob} blob
 * @param {Blob} source
 * @param {string} model
 * @returns {Promise<{width: number, height: number, shown: boolean, url: string}>}
 */
export async function showResult(blob, source, model) {
	const old = result;
	const [after, before] = await Promise.all([measure(blob), measure(source)]);
	result = { ...after, before, alt: text.result.alt(model) };
	for (const one of old ? [old, old.before] : []) URL.revokeObjectURL(one.url);
	show("result");
	return after;
}

/** @param {string|null} url */
export function setPreview(url) {
	preview.hidden = !url;
	if (url) preview.src = url;
}

setPreview(null);
showWork();
