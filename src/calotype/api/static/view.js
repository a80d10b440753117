/** Zoom and pan of a picture in a box: wheel, pinch, drag, keys and buttons. */

import { button, h } from "./dom.js";
import { percent, text } from "./text.js";

const MOST = { fit: 3, zoom: 32 };
const STEP = 1.25;
const PAN = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };

/** Where the picture lies: `scale` px of the page a pixel, its corner at `x`, `y` of the box. */
export class View {
	/**
	 * @param {HTMLElement} box
	 * @param {Record<string, Function>} hooks `render`, when something moved; where one pointer paints
	 *   and doesn't pan, `start` and `move`, told the picture's pixels, and `end`, told whether a second
	 *   finger came, so that it was none of it
	 */
	constructor(box, hooks) {
		Object.assign(this, { box, hooks, width: 1, height: 1, scale: 1, x: 0, y: 0, isFit: true, isPainting: false, pointers: new Map() });
		this.level = h("output.level");
		const events = { pointerdown: this.down, pointermove: this.move, pointerup: this.up, pointercancel: this.up, wheel: this.wheel };
		for (const [name, act] of Object.entries(events)) box.addEventListener(name, (event) => act.call(this, event), { passive: false });
		new ResizeObserver(() => (this.isFit ? this.fit() : this.render())).observe(box);
	}

	/** Show a picture of another size, all of it. */
	setSize({ width, height }) {
		Object.assign(this, { width, height });
		this.fit();
	}

	/** Show all of it. */
	fit() {
		this.isFit = true;
		this.scale = this.fitScale = Math.min(this.box.clientWidth / this.width, this.box.clientHeight / this.height, MOST.fit) || 1;
		this.render();
	}

	/** Zoom by a factor about a point of the box, or its middle. */
	zoom(factor, x = this.box.clientWidth / 2, y = this.box.clientHeight / 2) {
		const scale = Math.min(MOST.zoom, Math.max(Math.min(this.fitScale, 1 / devicePixelRatio), this.scale * factor));
		const grown = scale / this.scale;
		this.scale = scale;
		this.place(x - (x - this.x) * grown, y - (y - this.y) * grown);
	}

	place(x, y) {
		Object.assign(this, { x, y, isFit: false });
		this.render();
	}

	/** Keep the picture in the box, and tell who draws it. */
	render() {
		const keep = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));
		this.x = keep(this.x, this.width * this.scale, this.box.clientWidth);
		this.y = keep(this.y, this.height * this.scale, this.box.clientHeight);
		this.box.classList.toggle("zoomed", !this.isFit);
		this.level.textContent = percent(this.scale * devicePixelRatio);
		this.hooks.render();
	}

	/** Lay an element, of whatever size, where the picture is. */
	lay(element, width = this.width, height = this.height) {
		const [x, y] = [(this.scale * this.width) / width, (this.scale * this.height) / height];
		Object.assign(element.style, { width: `${width}px`, height: `${height}px`, transform: `translate(${this.x}px, ${this.y}px) scale(${x}, ${y})` });
		// Who zooms to the real size or beyond wants to see the pixels; fitted, a small picture looks better smooth.
		element.classList.toggle("pixelated", !this.isFit && x * devicePixelRatio > 0.999);
	}

	/** The buttons. */
	buttons() {
		const actual = () => this.zoom(1 / devicePixelRatio / this.scale);
		return h("div.row.zoom",
			button("", text.view.zoomOut, () => this.zoom(1 / STEP), { icon: "minus" }), this.level,
			button("", text.view.zoomIn, () => this.zoom(STEP), { icon: "plus" }),
			button("", text.view.fit, () => this.fit(), { icon: "fit" }),
			button("", "1:1", actual, { title: text.view.actual }));
	}

	/** Handle + - 0 and, if wanted, the arrows. */
	key(event, hasArrows) {
		const by = hasArrows && PAN[event.key];
		if (event.ctrlKey || event.metaKey || event.altKey) return;
		if (event.key === "+" || event.key === "=") this.zoom(STEP);
		else if (event.key === "-") this.zoom(1 / STEP);
		else if (event.key === "0") this.fit();
		else if (by) this.place(this.x + by[0], this.y + by[1]);
		else return;
		event.preventDefault();
	}

	/** From the window to the box. */
	inBox({ clientX, clientY }) {
		const { left, top } = this.box.getBoundingClientRect();
		return [clientX - left, clientY - top];
	}

	/** From the window to the picture's pixels. */
	inPicture(event) {
		const [x, y] = this.inBox(event);
		return [(x - this.x) / this.scale, (y - this.y) / this.scale];
	}

	down(event) {
		if (event.button > 1) return;
		this.box.setPointerCapture(event.pointerId);
		this.pointers.set(event.pointerId, this.inBox(event));
		if (this.isPainting) this.stop(true);
		else if (this.hooks.start && this.pointers.size === 1 && event.button === 0) {
			this.isPainting = true;
			this.hooks.start(...this.inPicture(event));
		}
	}

	move(event) {
		const before = this.pointers.get(event.pointerId);
		if (!before) return;
		if (this.isPainting) {
			const all = event.getCoalescedEvents?.() ?? [];
			for (const one of all.length ? all : [event]) this.hooks.move(...this.inPicture(one));
			return;
		}
		const now = this.inBox(event);
		this.pointers.set(event.pointerId, now);
		const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
		const part = other ? 2 : 1;
		if (other) {
			const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
			this.zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
		}
		this.place(this.x + (now[0] - before[0]) / part, this.y + (now[1] - before[1]) / part);
	}

	up(event) {
		this.pointers.delete(event.pointerId);
		if (this.isPainting) this.stop(false);
	}

	stop(isCancelled) {
		this.isPainting = false;
		this.hooks.end(isCancelled);
	}

	wheel(event) {
		// At its smallest, the page scrolls on.
		if (event.deltaY > 0 && this.isFit && !event.ctrlKey) return;
		event.preventDefault();
		const factor = Math.exp(Math.max(-200, Math.min(200, -event.deltaY)) / 400);
		if (factor < 1 && this.scale * factor <= this.fitScale) this.fit();
		else this.zoom(factor, ...this.inBox(event));
	}
}
