/** A mask as a list of what was done, so that it can be undone, and drawn at any size. */

import { h } from "./dom.js";

/** Most pixels that are drawn at once: a large picture's mask is made in bands. */
const BAND_PIXELS = 4e6;
const PNG_SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

/** For the eye only: what is opaque is masked. */
const COLOR = "#ff3d6e";

/**
 * @typedef {{kind: "paint"|"erase", radius: number, points: [number, number][]}
 *   | {kind: "clear"|"invert"} | {kind: "picture", image: HTMLCanvasElement}} Step
 *   in the picture's pixels
 */

/**
 * Draw one step.
 * @param {CanvasRenderingContext2D} context scaled to the picture's pixels
 * @param {Step} step
 * @param {{width: number, height: number}} picture
 */
export function drawStep(context, step, { width, height }) {
	const { kind, points, image } = step;
	const mode = { erase: "destination-out", invert: "xor" }[kind] ?? "source-over";
	Object.assign(context, { globalCompositeOperation: mode, fillStyle: COLOR, strokeStyle: COLOR });
	Object.assign(context, { lineWidth: 2 * step.radius, lineCap: "round", lineJoin: "round" });
	if (kind === "clear" || image) context.clearRect(0, 0, width, height);
	if (kind === "invert") context.fillRect(0, 0, width, height);
	if (image) context.drawImage(image, 0, 0, width, height);
	if (!points) return;
	context.beginPath();
	// A line of no length is not drawn; a dot has to be.
	context.moveTo(points[0][0] - 0.01, points[0][1]);
	for (const point of points) context.lineTo(...point);
	context.stroke();
}

const newContext = (width, height) => h("canvas", { width, height }).getContext("2d", { willReadFrequently: true });

/**
 * Turn a picture into a mask, by the server's rule: what is bright and opaque.
 * @param {ImageBitmap} bitmap closed afterwards
 * @returns {HTMLCanvasElement}
 */
export function maskOf(bitmap) {
	const { width, height } = bitmap;
	const context = newContext(width, height);
	context.drawImage(bitmap, 0, 0);
	bitmap.close();
	const image = context.getImageData(0, 0, width, height);
	const { data } = image;
	for (let i = 0; i < data.length; i += 4) {
		const luma = 0.299 * data[i] + 0.587 * data[i + 1] + 0.114 * data[i + 2];
		[data[i], data[i + 1], data[i + 2]] = [255, 61, 110];
		data[i + 3] = luma > 127 && data[i + 3] > 127 ? 255 : 0;
	}
	context.putImageData(image, 0, 0);
	return context.canvas;
}

/**
 * Write the mask as a PNG of one bit a pixel, white where it is masked.
 *
 * A browser's own encoder needs a canvas of the whole size, which phones refuse for large pictures.
 * @param {Step[]} steps
 * @param {{width: number, height: number}} picture in whose pixels the steps are
 * @param {{width: number, height: number}} size of the PNG
 * @returns {Promise<Blob>}
 * Source: https://www.w3.org/TR/png-3/
 */
export async function maskPng(steps, picture, size) {
	const { width, height } = size;
	const rows = Math.max(1, Math.min(height, Math.floor(BAND_PIXELS / width)));
	const context = newContext(width, rows);
	const zlib = new CompressionStream("deflate");
	const packed = new Response(zlib.readable).arrayBuffer();
	const writer = zlib.writable.getWriter();
	for (let top = 0; top < height; top += rows) {
		context.reset();
		context.setTransform(width / picture.width, 0, 0, height / picture.height, 0, -top);
		for (const step of steps) drawStep(context, step, picture);
		const count = Math.min(rows, height - top);
		await writer.write(packBits(context.getImageData(0, 0, width, count).data, width, count));
	}
	writer.close();
	const header = new DataView(new ArrayBuffer(13));
	header.setUint32(0, width);
	header.setUint32(4, height);
	header.setUint8(8, 1);
	const chunks = [chunk("IHDR", new Uint8Array(header.buffer)), chunk("IDAT", new Uint8Array(await packed)), chunk("IEND", new Uint8Array())];
	return new Blob([new Uint8Array(PNG_SIGNATURE), ...chunks], { type: "image/png" });
}

/** Rows of bits, each after a byte that says "no filter". */
function packBits(rgba, width, height) {
	const stride = 1 + Math.ceil(width / 8);
	const out = new Uint8Array(stride * height);
	for (let y = 0, i = 3; y < height; y++) {
		for (let x = 0; x < width; x++, i += 4) {
			if (rgba[i] > 127) out[y * stride + 1 + (x >> 3)] |= 128 >> (x & 7);
		}
	}
	return out;
}

function chunk(type, data) {
	const out = new Uint8Array(data.length + 12);
	const view = new DataView(out.buffer);
	view.setUint32(0, data.length);
	for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
	out.set(data, 8);
	view.setUint32(data.length + 8, crc(out.subarray(4, data.length + 8)));
	return out;
}

function crc(bytes) {
	let sum = -1;
	for (const byte of bytes) {
		sum ^= byte;
		for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
	}
	return ~sum;
}
