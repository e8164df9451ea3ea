/**
 * The log of events, newest last, in a list that screen readers follow.
 */
import { h } from "./dom.ts";

const MOST = 200;

/** The list. */
export class LogView {
  readonly #list: HTMLElement;

  constructor(list: HTMLElement) {
    this.#list = list;
  }

  /** Adds a line; the list follows it unless its reader has scrolled up. */
  add(text: string, kind: "good" | "bad" | "" = ""): void {
    const list = this.#list;
    const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
    const time = new Date(performance.timeOrigin + performance.now());
    const clock = time.toTimeString().slice(0, 8);
    list.append(h("p", { class: kind || undefined }, h("time", {}, clock), text));
    while (list.childElementCount > MOST) list.firstElementChild!.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }
}
