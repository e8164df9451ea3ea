/**
 * The layers of src/ and the rule over them (docs/ARCHITECTURE.md): imports run downward only, type imports included;
 * units within a row do not know each other; each outside package has one home.
 */
import { type Breach, lineOf, repositoryFiles, type Source, type SyntaxNode, walk } from "./source.ts";

/** The folders of src/, lowest first. The entries (src/*.ts and the folders below) stand above them all. */
const ROWS = [
  "base",
  "platform",
  "kernels",
  "wire",
  "crypto",
  "block",
  "drivers",
  "job",
  "export",
  "machine",
  "server",
  "store",
  "api",
  "workload",
  "sim",
  "fleet",
];
const ENTRY = ROWS.length;
const ENTRIES = /^src\/(cli|dashboard|adapters)\//;

/** How many folders below src/ name one unit that its siblings must not import; absent: the layer is one unit. */
const UNIT_DEPTH: Readonly<Record<string, number>> = { platform: 2, wire: 2, drivers: 3, server: 2 };

/** Layers that reach the drivers only through the registry (jobs own filters, hence the finer line). */
const BARRED: readonly (readonly [from: RegExp, to: RegExp, why: string])[] = [
  [/^src\/(job|machine)\//, /^src\/drivers\/(format|protocol)\//, "never names a format or a protocol"],
  [/^src\/server\//, /^src\/drivers\//, "never names a driver"],
];

/** Packages and who may import them. Everything else that is not relative is refused in src/. */
const HOMES: readonly (readonly [specifier: RegExp, home: RegExp])[] = [
  [/^node:/, /^src\/(platform\/node|cli)\//],
  [/^commander$/, /^src\/cli\//],
  [/^v86$/, /^src\/dashboard\//],
  [/^uplot$/, /^src\/dashboard\/daemon\//],
  [/^ws$/, /^src\/platform\/node\/web-sockets\.ts$/],
  [/^file-disk$/, /^src\/adapters\/file-disk\.ts$/],
  [/^random-access-storage$/, /^src\/adapters\/random-access\.ts$/],
  [/^(koffi|@bokuweb\/zstd-wasm)$/, /^src\/platform\/node\//],
  [/^aws4fetch$/, /^src\/drivers\/protocol\/http\/s3\//],
  [/^fzstd$/, /^src\/platform\/fzstd\.ts$/],
  [/^@noble\/(ciphers|hashes)\//, /^src\/platform\/browser\//],
  [/^(bullmq|ioredis|pg)$/, /^src\/cli\/fleet\//],
  [/^(#kernels-binary|@assemblyscript\/loader)$/, /^src\/kernels\//],
];

/** An import, however it is spelt: import, export from, import(), or a type's import(). */
export interface Import {
  readonly specifier: string;
  readonly line: number;
}

/** All imports of a file. */
export function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  walk(source.program, (node) => {
    if (!/^(Import|ExportNamed|ExportAll)(Declaration|Expression)$|^TSImportType$/.test(node.type)) return;
    const literal = node["source"] as SyntaxNode | null;
    if (typeof literal?.["value"] === "string") {
      found.push({ specifier: literal["value"], line: lineOf(source, node.start) });
    }
  });
  return found;
}

/** The rank of a file's layer; undefined when its folder is not in the table. */
function rankOf(path: string): number | undefined {
  if (/^src\/[^/]+$/.test(path) || ENTRIES.test(path)) return ENTRY;
  const rank = ROWS.indexOf(path.split("/")[1] ?? "");
  return rank < 0 ? undefined : rank;
}

const FILES = new Set(repositoryFiles(/^src\//));

/**
 * The unit of a file: files that stand directly in a layer's folder are shared by its units and have none. A driver of
 * several files is a folder, or `name.ts` with its parts beside it as `name-part.ts`.
 */
function unitOf(path: string): string | undefined {
  const parts = path.replace(/\.ts$/, "").split("/").slice(1);
  const depth = UNIT_DEPTH[parts[0] ?? ""];
  if (depth === undefined || parts.length < depth) return undefined;
  if (depth === 2 && parts.length === 2) return undefined;
  const unit = parts.slice(0, depth).join("/");
  const words = unit.split("-");
  const stems = words.map((_word, count) => words.slice(0, count + 1).join("-"));
  return stems.find((stem) => FILES.has(`src/${stem}.ts`)) ?? unit;
}

/** Resolves `./` and `../` against the importing file. */
export function resolveImport(from: string, specifier: string): string {
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}

/** Why `from` must not import `specifier`; undefined when it may. */
function refusal(from: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) {
    const home = HOMES.find(([pattern]) => pattern.test(specifier))?.[1];
    return home?.test(from) ? undefined : `'${specifier}' has no business here`;
  }
  const to = resolveImport(from, specifier);
  const [low, high] = [rankOf(to), rankOf(from)];
  if (low === undefined) return `'${to}' is in no layer`;
  if (high === undefined) return undefined;
  if (low > high) return `imports upward: '${to}'`;
  if (to.startsWith("src/platform/") && high !== ENTRY && ROWS[high] !== "platform") {
    return `only entries import '${to}': take the Host`;
  }
  const barred = BARRED.find(([one, other]) => one.test(from) && other.test(to));
  if (barred) return `${barred[2]}: '${to}'`;
  const [unit, own] = [unitOf(to), unitOf(from)];
  if (low === high && unit !== undefined && own !== undefined && unit !== own)
    return `imports its sibling '${to}'`;
  return undefined;
}

/** The layer rule. */
export function layerBreaches(source: Source): Breach[] {
  const breaches = importsOf(source).flatMap(({ specifier, line }) => {
    const what = refusal(source.path, specifier);
    return what === undefined ? [] : [{ line, what }];
  });
  if (rankOf(source.path) === undefined) breaches.unshift({ line: 1, what: "its folder is in no layer" });
  return breaches;
}

const FORMAT_NAMES = new Set("raw qcow2 qcow qed vmdk vhdx vpc vdi parallels luks null-co".split(" "));

/** Who may spell a format's name: its folder, the registry, the fixed schema of QEMU 7.2, LUKS' own code, and QEMU's other formats; the builders, which are called as the formats; and the simulator, whose stories choose among them. */
const FORMAT_HOMES =
  /^src\/(drivers\/(format\/|protocol\/null-co\.ts$|index\.ts$)|sim\/|wire\/qapi\/|crypto\/luks|block\/model\/foreign-formats\.ts$|api\/builders\.ts$)/;

/** The Web's and QAPI's words that happen to be a format's name: key material as it is, the plain child of a filter. */
const OTHER_WORDS = /^src\/(platform\/browser\/crypto|crypto\/secret-data|drivers\/filter\/blkverify)\.ts$/;

/** What a node of the syntax tree spells: a string, a type's, or a member's name. */
function spelt(node: SyntaxNode): string | undefined {
  if (node.type === "Literal" && typeof node["value"] === "string") return node["value"];
  const key = node.type === "Property" && !node["computed"] ? (node["key"] as SyntaxNode) : undefined;
  return key?.type === "Identifier" ? (key["name"] as string) : undefined;
}

/** A format is told in one place: nobody else knows one by its name. */
export function formatNameBreaches(source: Source): Breach[] {
  const found: Breach[] = [];
  if (!source.path.startsWith("src/") || FORMAT_HOMES.test(source.path) || OTHER_WORDS.test(source.path))
    return found;
  walk(source.program, (node) => {
    const name = spelt(node);
    if (name === undefined || !FORMAT_NAMES.has(name)) return;
    found.push({ line: lineOf(source, node.start), what: `names the format '${name}'` });
  });
  return found;
}
