/**
 * The graph of nodes as a drawing: who uses a node above, what it lies on below. The same is in a table, for those who do not see it.
 */
import type { ReturnOf } from "../../wire/qapi/index.ts";
import { byId, h, say } from "../dom.ts";

type Graph = ReturnOf<"x-debug-query-block-graph">;
type NodeRow = ReturnOf<"query-named-block-nodes">[number];

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, GAP, RISE] = [168, 46, 16, 42];

/** A node of the graph and how deep below its highest user it is. */
interface Placed {
  readonly name: string;
  readonly detail: string;
  readonly kind: string;
  readonly level: number;
  readonly column: number;
}

/** The nodes that no other node is above: disks. Nodes that jobs and programs put in by themselves are passed over. */
export function disksOf({ nodes, edges }: Graph): string[] {
  const driver = new Map(nodes.filter(({ type }) => type === "block-driver").map((node) => [node.id, node]));
  const isBelow = new Set(edges.filter(({ parent }) => driver.has(parent)).map(({ child }) => child));
  const named = (id: number): string[] => {
    const name = driver.get(id)?.name ?? "";
    if (!name.startsWith("#")) return [name];
    return edges.filter(({ parent }) => parent === id).flatMap(({ child }) => named(child));
  };
  return [...new Set([...driver.keys()].filter((id) => !isBelow.has(id)).flatMap(named))];
}

function place({ nodes, edges }: Graph, rows: readonly NodeRow[]): Map<number, Placed> {
  const levels = new Map(nodes.map(({ id }) => [id, 0]));
  // A graph has no circles, so that this ends: each round moves somebody down.
  for (let moved = true; moved;) {
    moved = false;
    for (const { parent, child } of edges) {
      const least = (levels.get(parent) ?? 0) + 1;
      if ((levels.get(child) ?? 0) >= least) continue;
      levels.set(child, least);
      moved = true;
    }
  }
  const used: number[] = [];
  const placed = new Map<number, Placed>();
  for (const { id, name, type } of nodes) {
    const level = levels.get(id) ?? 0;
    const column = used[level] ?? 0;
    used[level] = column + 1;
    const row = type === "block-driver" ? rows.find((one) => one["node-name"] === name) : undefined;
    const kind = type.replace("block-", "");
    const detail = row ? `${row.drv}${row.ro ? ", read only" : ""}` : kind;
    placed.set(id, { name: name || "(unnamed)", detail, kind, level, column });
  }
  return placed;
}

function svg(name: string, attributes: Readonly<Record<string, string | number>>, text?: string): SVGElement {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  if (text !== undefined) element.textContent = text;
  return element;
}

const LETTERS = 21;
const shortened = (text: string): string => (text.length > LETTERS ? `${text.slice(0, LETTERS - 1)}…` : text);

function corner({ level, column }: Placed): [x: number, y: number] {
  return [column * (WIDTH + GAP) + 1, level * (HEIGHT + RISE) + 1];
}

function boxOf(one: Placed): SVGElement {
  const [x, y] = corner(one);
  const group = svg("g", { class: `node ${one.kind}` });
  group.append(
    svg("rect", { x, y, width: WIDTH, height: HEIGHT, rx: 8 }),
    svg("text", { x: x + 10, y: y + 19, class: "name" }, shortened(one.name)),
    svg("text", { x: x + 10, y: y + 37 }, shortened(one.detail)),
    svg("title", {}, `${one.name}: ${one.detail}`),
  );
  return group;
}

function lineOf(from: Placed, to: Placed, name: string): SVGElement {
  const [[fromX, fromY], [toX, toY]] = [corner(from), corner(to)];
  const [x1, y1, x2, y2] = [fromX + WIDTH / 2, fromY + HEIGHT, toX + WIDTH / 2, toY];
  const group = svg("g", { class: "edge" });
  group.append(
    svg("path", { d: `M${x1} ${y1}C${x1} ${y1 + RISE / 2} ${x2} ${y2 - RISE / 2} ${x2} ${y2}` }),
    svg("text", { x: x1 + (x2 - x1) / 5 + 5, y: y1 + 13 }, name),
  );
  return group;
}

/** The drawing and its table. */
export class GraphView {
  readonly #holder = byId("graph");
  readonly #rows = byId("graph-rows");
  readonly #words = byId("graph-words");
  #shown = "";

  show(graph: Graph, rows: readonly NodeRow[]): void {
    const key = JSON.stringify([graph, rows.map((row) => [row["node-name"], row.drv, row.ro, row.file])]);
    if (key === this.#shown) return;
    this.#shown = key;
    const placed = place(graph, rows);
    const all = [...placed.values()];
    const columns = Math.max(0, ...all.map(({ column }) => column + 1));
    const levels = Math.max(0, ...all.map(({ level }) => level + 1));
    const [width, height] = [columns * (WIDTH + GAP), levels * (HEIGHT + RISE)];
    const drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const { parent, child, name } of graph.edges)
      drawing.append(lineOf(placed.get(parent)!, placed.get(child)!, name));
    for (const one of all) drawing.append(boxOf(one));
    this.#holder.replaceChildren(drawing);
    say(this.#words, `${rows.length} nodes`);
    this.#rows.replaceChildren(...rows.map((row) => this.#row(row, graph)));
  }

  #row(row: NodeRow, { nodes, edges }: Graph): HTMLElement {
    const name = row["node-name"] ?? "";
    const id = nodes.find((node) => node.type === "block-driver" && node.name === name)?.id;
    const names = new Map(nodes.map((node) => [node.id, node.name || node.type]));
    const children = edges
      .filter(({ parent }) => parent === id)
      .map((edge) => `${edge.name}: ${names.get(edge.child)}`);
    const users = edges.filter(({ child }) => child === id).map(({ parent }) => names.get(parent) ?? "");
    const cells = [row.drv, row.ro ? "yes" : "no", children.join(", "), users.join(", "), row.file];
    return h("tr", {}, h("th", { scope: "row" }, name), ...cells.map((cell) => h("td", {}, cell)));
  }
}
