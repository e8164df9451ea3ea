/**
 * The live map of each disk: the demo's map over what the daemon says of the disk's cells, with the range where a job failed.
 */
import type { QmpClient } from "../../server/monitor/client.ts";
import { byId, bytesText, h, say } from "../dom.ts";
import { MapModel, states } from "../map-model.ts";
import { MapView } from "../map-view.ts";
import { ask, type Answer } from "./link.ts";

/** Cells of a map: as many as a screen shows well. */
const CELLS = 2048;

const WORDS: Readonly<Record<(typeof states)[number], string>> = {
  absent: "not allocated",
  zero: "zeroes",
  local: "data",
  dirty: "data of a backing image",
  flight: "under way",
  failed: "failed",
};

const SHOWN = { hole: "absent", zero: "zero", data: "local", backing: "dirty" } as const;

/** A range of a node where a job has failed. */
export interface FailedPlace {
  readonly node: string;
  readonly offset: number;
  readonly bytes: number;
}

/** One disk's card. */
class DiskCard {
  readonly element: HTMLElement;
  readonly #canvas = h("canvas", { role: "img" });
  readonly #facts = h("p", { class: "facts" });
  readonly #legend = h("ul", { class: "legend" });
  readonly #name: string;
  #model: MapModel | undefined;
  #view: MapView | undefined;
  #marked: FailedPlace | undefined;

  constructor(name: string) {
    this.#name = name;
    this.#legend.setAttribute("aria-label", `Cells of ${name} by state`);
    const title = h("div", { class: "title" }, h("h3", {}, name), this.#facts);
    const map = h("div", { class: "map" }, this.#canvas);
    this.element = h("article", { class: "disk", "aria-label": `Disk ${name}` }, title, map, this.#legend);
  }

  show(map: Answer<"x-blockwright-query-map">, failed: FailedPlace | undefined): void {
    const { size, extents } = map;
    const cellBytes = map["cell-bytes"];
    let model = this.#model;
    if (!model || model.clusterBytes !== cellBytes || model.clusters !== Math.ceil(size / cellBytes)) {
      model = this.#model = new MapModel(size, cellBytes);
      this.#marked = undefined;
      if (size > 0) {
        if (this.#view) this.#view.show(model);
        else this.#view = new MapView(this.#canvas, model);
      }
    }
    for (const { cell, cells, state } of extents)
      model.store(cell * cellBytes, cells * cellBytes, SHOWN[state]);
    this.#mark(model, failed);
    this.#view?.wake();
    say(this.#facts, `${bytesText(size)}, ${bytesText(cellBytes)} a cell`);
    this.#canvas.setAttribute("aria-label", `${this.#name}: ${summaryOf(model)}`);
    this.#showLegend(model);
  }

  /** Shows where a job has failed, and no more where it had before. */
  #mark(model: MapModel, failed: FailedPlace | undefined): void {
    const old = this.#marked;
    if (old?.offset === failed?.offset && old?.bytes === failed?.bytes) return;
    if (old) model.begin(old.offset, old.bytes)("read");
    if (failed) model.begin(failed.offset, failed.bytes)("failed");
    this.#marked = failed;
  }

  #showLegend(model: MapModel): void {
    const rows = states.flatMap((state, at) => {
      const count = model.counts[at] ?? 0;
      const text = `${WORDS[state]}: ${count}`;
      return count > 0
        ? [h("li", {}, h("span", { class: `swatch ${state}`, "aria-hidden": "true" }), text)]
        : [];
    });
    const text = rows.map((row) => row.textContent).join("\n");
    if (this.#legend.innerText !== text) this.#legend.replaceChildren(...rows);
  }
}

function summaryOf(model: MapModel): string {
  const parts = states.flatMap((state, at) =>
    model.counts[at] ? [`${model.counts[at]} ${WORDS[state]}`] : [],
  );
  return `map of ${model.clusters} cells, ${parts.join(", ")}`;
}

/** The cards. */
export class DisksView {
  readonly #cards = new Map<string, DiskCard>();
  readonly #list = byId("disks");
  readonly #none = byId("disks-none");

  /** Shows these disks, as they are by now. A disk that goes away meanwhile, or can't be looked at, stays as it was. */
  async show(client: QmpClient, names: readonly string[], failed: readonly FailedPlace[]): Promise<void> {
    for (const [name, card] of this.#cards) {
      if (names.includes(name)) continue;
      card.element.remove();
      this.#cards.delete(name);
    }
    this.#none.hidden = names.length > 0;
    for (const name of names) {
      let card = this.#cards.get(name);
      if (!card) {
        card = new DiskCard(name);
        this.#cards.set(name, card);
        this.#list.append(card.element);
      }
      const args = { "node-name": name, "max-cells": CELLS };
      const map = await ask(client, "x-blockwright-query-map", args).catch(() => undefined);
      if (map)
        card.show(
          map,
          failed.find(({ node }) => node === name),
        );
    }
  }
}
