/** Light or dark: the system's, until the visitor chooses. Loaded first, so that nothing flashes. */

const KEY = "calotype-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const root = document.documentElement;

const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function apply(theme) {
	if (theme) root.dataset.theme = theme;
	document.querySelector("meta[name=theme-color]").content = isDark() ? "#171513" : "#f6f3ee";
}

// Storage is refused to some pages, e.g. where cookies are blocked: then the choice is not kept.
function remember(work) {
	try {
		return work(localStorage);
	} catch {
		return null;
	}
}

/** Turn to the other one, and keep that. */
export function toggleTheme() {
	apply(isDark() ? "light" : "dark");
	remember((storage) => storage.setItem(KEY, root.dataset.theme));
}

apply(remember((storage) => storage.getItem(KEY)));
system.addEventListener("change", () => apply());
