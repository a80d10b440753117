/** Every word that the page says. To translate the page, translate this file. */

const LANGUAGE = "en";
const round = (value, digits = 1) => value.toLocaleString(LANGUAGE, { maximumFractionDigits: digits });
const about = (s) => (s == null ? "a while" : `about ${duration(Math.max(1, Math.round(s)))}`);

/** @param {number} s seconds */
export function duration(s) {
	if (s < 100) return `${round(s, s < 1 ? 2 : s < 10 ? 1 : 0)} s`;
	return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/** @param {number} n */
export const bytes = (n) => (n < 1000 ? `${n} bytes` : n < 1e6 ? `${round(n / 1e3, 0)} kB` : `${round(n / 1e6)} MB`);

/** @param {{width: number, height: number}} size in px */
export const pixels = ({ width, height }) => `${width} × ${height} px`;

/** @param {number} share 0 to 1 */
export const percent = (share, digits = 0) => `${round(100 * share, digits)} %`;

/** @param {number} at milliseconds since 1970 */
export const moment = (at) => new Date(at).toLocaleString(LANGUAGE, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const text = {
	static: {
		skip: "Skip to the result",
		tagline: "Image-to-image models on this server",
		picture: "Picture",
		model: "Model",
		settings: "Settings",
		stage: "Result",
		code: "The same from a program",
		history: "History",
	},
	theme: "Light or dark",
	key: "Token",
	about: (version) => `Calotype ${version}. Your pictures go to ${location.host} and nowhere else. `,
	openapi: "API description",
	retry: "Try again",

	picture: {
		choose: "Choose a picture",
		replace: "Choose another",
		how: "or drop it anywhere, or paste it",
		samples: "No picture at hand? Take a sample:",
		photo: "Sample photo",
		gray: "Sample in black and white",
		unseen: "This browser can't show the picture. It is sent all the same.",
		pasted: "pasted.png",
		none: "Choose a picture first.",
		empty: "Choose a picture, a model, and run it. The result appears here.",
		alt: "The picture to work on",
	},
	models: {
		filter: "Filter the models",
		empty: "This token may run no model.",
		then: "Then also run",
		nothing: "nothing more",
		licence: (name) => `Licence ${name}`,
		states: {
			loaded: () => "ready",
			loading: (model) => `loading, ${about(model.estimated_load_s)}`,
			unloaded: (model) => `loads in ${about(model.estimated_load_s)}`,
			failed: (model) => `failed: retry in ${duration(Math.ceil(model.retry_after_s))}`,
			too_large: () => "too large for this machine",
		},
	},
	form: {
		advanced: "Advanced",
		all: "For the final picture",
		stage: (name) => `Settings of ${name}`,
		reset: "Reset",
		needed: "needed",
		missing: (label) => `${label} is needed.`,
		auto: "auto",
		sameFormat: "as sent",
		width: "Width",
		height: "Height",
		dice: "Draw a seed",
		remove: "Remove",
		number: (label) => `${label}, as a number`,
		mix: "Mix several",
		weight: (name) => `Weight of ${name}`,
		labels: {
			guidance_scale: "Guidance",
			image_guidance_scale: "Picture guidance",
			loras: "LoRA adapters",
			mask_blur: "Soft edge",
			negative_prompt: "What not to show",
			num_inference_steps: "Steps",
			output_format: "File format",
			preserve_color: "Keep the colours",
			scale: "Enlarge",
			target_size: "Exact size",
			true_cfg_scale: "True guidance",
		},
		/** In place of what the server says of a parameter. */
		help: {
			style: "",
			style_image: "Any picture; its style is taken.",
			output_format: "",
			target_size: "In pixels. One side is enough: the other follows the picture's shape.",
			loras: 'For example [{"id": "acme/pixel", "scale": 0.8}], or acme/pixel:0.8.',
		},
	},
	mask: {
		help: "Paint over what should change. By keyboard: the arrow keys move the brush, Space paints, [ and ] change its size.",
		canvas: "Mask: arrow keys move the brush, Space paints",
		tool: "Tool",
		paint: "Paint",
		erase: "Erase",
		size: "Brush size",
		undo: "Undo",
		redo: "Redo",
		clear: "Clear",
		invert: "Invert",
		load: "Load a mask",
		save: "Save mask.png",
		unreadable: "This browser can't read that file as a mask.",
		unseen: "This browser can't show the picture, so no mask can be painted. Transparent parts of it are repainted.",
		stretched: "That mask has another shape than the picture; it was stretched.",
	},
	view: {
		picture: "Picture",
		mask: "Mask",
		result: "Result",
		which: "What is shown",
		compare: "How much of the picture before is shown",
		area: "Picture: plus and minus zoom, arrow keys move it, 0 fits it",
		before: "Before",
		after: "After",
		zoomIn: "Zoom in",
		zoomOut: "Zoom out",
		fit: "Fit",
		actual: "One pixel on one of the screen",
	},
	run: {
		run: "Run",
		keys: "Ctrl + Enter",
		cancel: "Cancel",
		progress: "Progress",
		sending: "sending the picture",
		queued: (place) => (place ? `waiting, place ${place}` : "waiting"),
		loading: (s) => `loading the model${s == null ? "" : `, ${about(s)}`}`,
		running: "at work",
		step: (p) => `step ${p.step} of ${p.total}${p.seconds_left == null ? "" : `, ${about(p.seconds_left)} left`}`,
		stage: (name, words) => `${name}: ${words}`,
		cancelled: "Cancelled.",
		done: (s) => `Done in ${duration(s)}.`,
		preview: "Preview of the unfinished picture",
	},
	result: {
		alt: (model) => `The result of ${model}`,
		unseen: "This browser can't show the result, but download it.",
		download: "Download",
		use: "Use as the next picture",
		copy: "Copy the picture",
		copied: "Copied",
		again: "Again with another seed",
		size: "Size",
		file: "File",
		time: "Time",
		times: (total, model) => (model > 0.05 ? `${duration(total)}, ${duration(model)} of it in the model` : duration(total)),
		model: "Model",
		seed: "Seed",
		cache: "Cache",
		caches: { hit: "computed earlier", coalesced: "shared with an equal request" },
		unchanged: "Unchanged pixels",
		safety: "Safety checker",
		warnings: "The server says",
	},
	code: {
		tabs: { curl: "curl", python: "Python", javascript: "JavaScript" },
		copy: "Copy",
		copied: "Copied",
		token: "TOKEN is a variable of your shell that holds the token.",
		install: { curl: "", python: "pip install huggingface_hub", javascript: "npm install @huggingface/inference" },
		mask: "The button above the picture saves mask.png.",
	},
	history: {
		empty: "The last 30 runs of this browser appear here.",
		kept: "The last 30 runs, kept in this browser only.",
		memory: "This browser keeps nothing for this page, so these runs are gone when you close it.",
		clear: "Clear all",
		sure: "Delete all runs?",
		remove: (model, when) => `Delete the run of ${model}, ${when}`,
	},
	token: {
		help: "This server may ask for a token. It is kept until you close this tab, and sent to this server only.",
		label: "Your token",
		use: "Use it",
	},
	problem: {
		heading: "That didn't work",
		countdown: (s) => `It can be tried again in ${duration(s)}.`,
		now: "It can be tried again now.",
		dismiss: "Dismiss",
	},
	hints: {
		network: "The server can't be reached. Is it running, and is this machine connected?",
		400: "JPEG, PNG, WebP, GIF, TIFF and AVIF files work.",
		401: "Enter a token that the server knows: calotype token create NAME makes one.",
		403: "Use a token that may, or ask who runs the server.",
		404: "Reload the page to see which models there are.",
		413: ({ max_upload_bytes: most, max_pixels: pixelsIn, max_output_pixels: out }) =>
			`At most ${bytes(most)} a request, ${round(pixelsIn / 1e6)} million pixels in and ${round(out / 1e6)} million out.` +
			" Parameters make a request a third larger.",
		422: "Change what the sentence names.",
		429: "The server is busy, or your token has used up its rate.",
		500: "The server's log says more.",
		503: "The server isn't ready for this. Try again in a moment.",
		504: "It took longer than the server allows. A smaller picture or a faster model may do.",
	},
};
