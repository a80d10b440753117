/** What went wrong, in plain words, and what can be done. */

import { button, byId, h } from "./dom.js";
import { text } from "./text.js";

const box = h("div.alert#problem", { role: "alert", hidden: true });
byId("runbar").append(box);
let timer;

/** Take it away. */
export function hideProblem() {
	clearInterval(timer);
	box.hidden = true;
}

function countDown(line, until) {
	const left = Math.ceil((until - performance.now()) / 1000);
	line.textContent = left > 0 ? text.problem.countdown(left) : text.problem.now;
	if (left <= 0) clearInterval(timer);
}

/**
 * @param {Error & {status?: number, retryAfter?: number}} error
 * @param {any} info of the server
 * @param {() => void} [retry]
 */
export function showProblem(error, info, retry) {
	hideProblem();
	const hint = text.hints[error.status];
	// The seconds would be read out one by one.
	const line = h("p", { "aria-live": "off" });
	const again = () => {
		hideProblem();
		retry();
	};
	box.replaceChildren(
		h("h2", text.problem.heading),
		h("p#problem-text", h("strong", error.message)),
		h("p", (typeof hint === "function" ? info && hint(info) : hint) ?? ""),
		line,
		h("div.row", retry && button("#retry", text.retry, again), button("", text.problem.dismiss, hideProblem)),
	);
	box.hidden = false;
	if (!error.retryAfter) return;
	const count = () => countDown(line, until);
	const until = performance.now() + error.retryAfter * 1000;
	count();
	timer = setInterval(count, 1000);
}
