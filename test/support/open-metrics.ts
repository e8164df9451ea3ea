// A strict parser of OpenMetrics' text format 1.0, by its specification; it throws at whatever that does not allow. Not ours: it knows
// nothing of the writer in src/.

/** A sample as it was read. */
export interface ReadSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A family as it was read. */
export interface ReadFamily {
  readonly name: string;
  readonly type: string;
  readonly unit: string | undefined;
  readonly help: string | undefined;
  readonly samples: ReadSample[];
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = "[a-zA-Z_][a-zA-Z0-9_]*";
const ESCAPED = String.raw`(?:[^"\\\n]|\\["\\n])*`;
const PAIR = `${LABEL}="${ESCAPED}"`;
const SAMPLE = new RegExp(`^(${NAME})(?:\\{((?:${PAIR}(?:,${PAIR})*)?)\\})? (\\S+)$`);
const META = new RegExp(`^# (TYPE|UNIT|HELP) (${NAME}) (.*)$`);
const NUMBER = /^(?:[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]Inf|NaN)$/i;

const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: ["_total", "_created"],
  gauge: [""],
  info: ["_info"],
  stateset: [""],
  unknown: [""],
};

/** Reads a whole text. */
export function parseOpenMetrics(text: string): Map<string, ReadFamily> {
  if (!text.endsWith("# EOF\n")) throw new Error("the text does not end with '# EOF' and a line feed");
  const families = new Map<string, ReadFamily>();
  let current: ReadFamily | undefined;
  for (const line of text.slice(0, -"# EOF\n".length).split("\n").slice(0, -1)) {
    if (line === "") throw new Error("an empty line");
    if (line.startsWith("#")) current = meta(line, families, current);
    else if (current) current.samples.push(sample(line, current));
    else throw new Error(`a sample without a family: ${line}`);
  }
  for (const family of families.values()) check(family);
  return families;
}

function meta(line: string, families: Map<string, ReadFamily>, current: ReadFamily | undefined): ReadFamily {
  const [, key, name = "", value = ""] = META.exec(line) ?? [];
  if (key === undefined) throw new Error(`no line of metadata: ${line}`);
  if (current?.name === name) {
    if (current.samples.length > 0) throw new Error(`metadata after samples: ${line}`);
    const known = key === "TYPE" ? current.type : key === "UNIT" ? current.unit : current.help;
    if (known !== undefined && known !== "") throw new Error(`twice: ${line}`);
    const changed = { ...current, ...(key === "UNIT" ? { unit: value } : { help: value }) };
    families.set(name, changed);
    return changed;
  }
  if (families.has(name)) throw new Error(`the samples of ${name} do not stand together`);
  if (key !== "TYPE") throw new Error(`this writer tells the type first: ${line}`);
  if (!(value in SUFFIXES)) throw new Error(`no type: ${line}`);
  const family: ReadFamily = { name, type: value, unit: undefined, help: undefined, samples: [] };
  families.set(name, family);
  return family;
}

function sample(line: string, family: ReadFamily): ReadSample {
  const [, name = "", labels = "", value = ""] = SAMPLE.exec(line) ?? [];
  if (name === "") throw new Error(`no sample: ${line}`);
  if (!NUMBER.test(value)) throw new Error(`no number: ${line}`);
  const suffixes = SUFFIXES[family.type] ?? [];
  if (!suffixes.some((suffix) => name === `${family.name}${suffix}`))
    throw new Error(`a sample of another family within ${family.name}: ${line}`);
  const pairs = [...labels.matchAll(new RegExp(`(${LABEL})="(${ESCAPED})"`, "g"))];
  const names = pairs.map(([, label]) => label);
  if (new Set(names).size !== names.length) throw new Error(`a label twice: ${line}`);
  const unescaped = (text: string): string =>
    text.replaceAll(/\\(.)/g, (_, letter: string) => (letter === "n" ? "\n" : letter));
  return {
    name,
    labels: Object.fromEntries(pairs.map(([, label = "", text = ""]) => [label, unescaped(text)])),
    value: Number(value.replace(/^([+-]?)Inf$/, "$1Infinity")),
  };
}

function check({ name, type, unit, samples }: ReadFamily): void {
  if (unit !== undefined && !name.endsWith(`_${unit}`)) throw new Error(`${name} does not end with ${unit}`);
  if (unit !== undefined && (type === "info" || type === "stateset"))
    throw new Error(`${name} has a unit and is a ${type}`);
  const keys = samples.map((one) =>
    JSON.stringify([one.name, Object.entries(one.labels).map(String).toSorted()]),
  );
  if (new Set(keys).size !== keys.length) throw new Error(`a sample of ${name} twice`);
  for (const { value, labels } of samples) {
    if (type === "counter" && !(value >= 0)) throw new Error(`the counter ${name} is ${value}`);
    if (type === "info" && value !== 1) throw new Error(`the info ${name} is ${value}`);
    if (type !== "stateset") continue;
    if (value !== 0 && value !== 1) throw new Error(`the state of ${name} is ${value}`);
    if (!(name in labels)) throw new Error(`the stateset ${name} lacks its own label`);
  }
}
