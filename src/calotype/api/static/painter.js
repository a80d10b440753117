/** Where a mask is painted over the picture. */

import { button, byId, emit, fileButton, h, segments, takeDrops } from "./dom.js";
import { drawStep, maskOf, maskPng } from "./mask.js";
import { text } from "./text.js";
import { View } from "./view.js";

/** The overlay is for the eye; what is sent is drawn anew, at the picture's size. */
const OVERLAY_PIXELS = 4e6;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const words = text.mask;
const image = h("img.layer", { alt: text.picture.alt, draggable: "false" });
const canvas = h("canvas.layer.overlay#mask-canvas");
const ring = h("div.ring");
const box = h("div.box.painting#mask-box", { tabindex: 0, role: "application", "aria-label": words.canvas }, image, canvas, ring);
const view = new View(box, { render, start, move, end });
const note = h("p.help", words.help);
const size = h("input#brush", { type: "range", value: 45, oninput: render });
const undo = button("#undo", words.undo, () => shift(steps, undone), { icon: "undo" });
const redo = button("#redo", words.redo, () => shift(undone, steps), { icon: "redo" });
const tools = h("div.row.toolbar",
	segments(words.tool, [["paint", words.paint], ["erase", words.erase]]),
	h("label.row", words.size, size),
	h("div.row", undo, redo,
		button("#mask-clear", words.clear, () => add({ kind: "clear" })),
		button("#mask-invert", words.invert, () => add({ kind: "invert" }))),
	h("div.row", fileButton("", words.load, loadMask, { id: "mask-file" }), button("#mask-save", words.save, save)),
	view.buttons());
tools.querySelector("#paint").checked = true;

/** What is shown. */
export const painter = h("div", tools, box, note);

/** @type {import("./mask.js").Step[]} */
let steps = [];
let undone = [];
let picture = { width: 1, height: 1 };
let cursor = [0, 0];
/** The step being painted. */
let stroke = null;

// From half a pixel to a sixth of the picture, finer where it is small.
const radius = () => Math.max(0.5, (Math.max(picture.width, picture.height) / 6) * (size.value / 100) ** 2);
const context = () => canvas.getContext("2d");

function render() {
	view.lay(image);
	view.lay(canvas, canvas.width, canvas.height);
	const side = `${2 * radius() * view.scale}px`;
	const [x, y] = [view.x + cursor[0] * view.scale, view.y + cursor[1] * view.scale];
	Object.assign(ring.style, { width: side, height: side, left: `${x}px`, top: `${y}px` });
}

function redraw() {
	context().reset();
	context().scale(canvas.width / picture.width, canvas.height / picture.height);
	for (const step of steps) drawStep(context(), step, picture);
	undo.disabled = !steps.length;
	redo.disabled = !undone.length;
	emit("mask");
}

function add(step) {
	steps.push(step);
	undone = [];
	redraw();
}

function shift(from, to) {
	if (from.length) to.push(from.pop());
	redraw();
}

function moveCursor(x, y) {
	cursor = [x, y];
	render();
}

function start(x, y) {
	box.focus({ preventScroll: true });
	stroke = { kind: byId("erase").checked ? "erase" : "paint", radius: radius(), points: [] };
	move(x, y);
}

function move(x, y) {
	if (!stroke) return;
	const points = [...stroke.points.slice(-1), [x, y]];
	stroke.points.push([x, y]);
	drawStep(context(), { ...stroke, points }, picture);
	moveCursor(x, y);
}

function end(isCancelled) {
	const done = stroke;
	stroke = null;
	if (!done) return;
	if (isCancelled) redraw();
	else add(done);
}

function press(event) {
	const { key } = event;
	const by = ARROWS[key];
	const letter = (event.ctrlKey || event.metaKey) && key.toLowerCase();
	if (by) {
		const far = (event.shiftKey ? 10 : 1) * Math.max(1, Math.round(radius() / 2));
		const at = ["width", "height"].map((side, i) => Math.min(picture[side], Math.max(0, cursor[i] + by[i] * far)));
		(stroke ? move : moveCursor)(...at);
	} else if (key === " ") {
		if (!stroke) start(...cursor);
	} else if (key === "[" || key === "]") {
		size.value = Number(size.value) + (key === "]" ? 5 : -5);
		render();
	} else if (letter === "y" || (letter === "z" && event.shiftKey)) shift(undone, steps);
	else if (letter === "z") shift(steps, undone);
	else return view.key(event, false);
	event.preventDefault();
}
box.addEventListener("keydown", press);
box.addEventListener("keyup", (event) => event.key === " " && end(false));
box.addEventListener("blur", () => end(false));
box.addEventListener("pointermove", (event) => stroke || moveCursor(...view.inPicture(event)));
takeDrops(box, loadMask);

async function save() {
	h("a", { href: URL.createObjectURL(await maskPng(steps, picture, picture)), download: "mask.png" }).click();
}

/**
 * Take a mask from a file. It is stretched to the picture's size, which the server wants.
 * @param {Blob} file
 */
export async function loadMask(file) {
	try {
		const bitmap = await createImageBitmap(file);
		const isOther = Math.abs(bitmap.width / bitmap.height - picture.width / picture.height) > 0.01;
		note.textContent = isOther ? words.stretched : words.help;
		add({ kind: "picture", image: maskOf(bitmap) });
	} catch {
		note.textContent = words.unreadable;
	}
}

/**
 * Paint on another picture.
 * @param {import("./picture.js").Picture} next
 */
export function paintOn(next) {
	[steps, undone, picture] = [[], [], next];
	const shrink = Math.min(1, Math.sqrt(OVERLAY_PIXELS / (picture.width * picture.height)));
	canvas.width = Math.ceil(picture.width * shrink);
	canvas.height = Math.ceil(picture.height * shrink);
	image.src = picture.url;
	note.textContent = words.help;
	cursor = [picture.width / 2, picture.height / 2];
	view.setSize(picture);
	redraw();
}

/** Whether there is a mask to send. */
export const hasMask = () => steps.length > 0;

/**
 * The mask as a PNG.
 * @param {{width: number, height: number}} wanted its size
 */
export const maskOfSize = (wanted) => maskPng(steps, picture, wanted);
