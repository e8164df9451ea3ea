/**
 * Making elements: a tag, its attributes and listeners, its children. No framework, since the page is one screen.
 */

/** Attributes by name; `on…` are listeners, booleans set or leave out, `undefined` leaves out. */
export type Attributes = Record<string, string | number | boolean | undefined | ((event: Event) => void)>;

/** What an element may hold. */
export type Child = Node | string | undefined;

/** Makes an element. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** The element of an id; a page that lacks it is broken. */
export function byId<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

/** Sets a text only if it changes, so that readers of the screen are left in peace. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Lets a button be pressed, or says beside it why it can't be. */
export function allow(id: string, why?: string): void {
  const button = byId<HTMLButtonElement>(id);
  const reason = byId(`${id}-why`);
  button.disabled = why !== undefined;
  reason.hidden = why === undefined;
  say(reason, why ?? "");
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes for people. */
export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}`;
}
