/**
 * fio's job file as text: sections with their options, `include`, comments, `${VAR}`. Source: fio 3.33's HOWTO, "Job file format",
 * and what its program does with the examples that come with it.
 */
import { WorkloadError } from "../model/plan.ts";

/** One option of a section, as it stands in the file. */
export interface FioOption {
  readonly name: string;
  /** Undefined: the name alone. */
  readonly value: string | undefined;
  /** Where it stands: `line 3`, with the file's name where that is another one. */
  readonly where: string;
}

/** One section. */
export interface FioSection {
  readonly name: string;
  readonly where: string;
  readonly options: readonly FioOption[];
}

/** What a job file may name beside itself. */
export interface FioOutside {
  /**
   * `${VAR}`; a variable that is not there is empty, as in fio. `pagesize`, `mb_memory` and `ncpus` are fio's reserved keywords, too
   * (`$ncpus`), which stay as they are where they are not there.
   */
  readonly variables?: Readonly<Record<string, string | undefined>>;
  /** Reads the file that `include` names; absent: there are no others. */
  readonly include?: (name: string) => Promise<string>;
}

/** Files within files, at most. */
const MOST_DEEP = 16;

interface Reader {
  readonly sections: { name: string; where: string; options: FioOption[] }[];
  readonly outside: FioOutside;
}

/** The line without its comment and the spaces around it. */
function stripped(line: string): string {
  return line.replace(/[;#].*$/, "").trim();
}

function expanded(text: string, { variables = {} }: FioOutside): string {
  return text
    .replaceAll(/\$\{([^}]*)\}/g, (_all, name: string) => variables[name] ?? "")
    .replaceAll(/\$(pagesize|mb_memory|ncpus)\b/g, (all, name: string) => variables[name] ?? all);
}

async function includeFile(reader: Reader, name: string, where: string, depth: number): Promise<void> {
  const { include } = reader.outside;
  if (!include) throw new WorkloadError(`${where}: no file can be included here`);
  if (depth >= MOST_DEEP) throw new WorkloadError(`${where}: files are included too deeply`);
  let text: string;
  try {
    text = await include(name);
  } catch (error) {
    throw new WorkloadError(`${where}: could not include '${name}': ${(error as Error).message}`);
  }
  await readLines(reader, text, { file: name, depth: depth + 1 });
}

async function readLines(
  reader: Reader,
  text: string,
  { file, depth }: { file: string; depth: number },
): Promise<void> {
  for (const [i, raw] of text.split(/\r?\n/).entries()) {
    const where = file === "" ? `line ${i + 1}` : `${file}, line ${i + 1}`;
    const line = stripped(raw);
    if (line === "") continue;
    const included = /^include\s+(.+)$/.exec(line);
    if (included) {
      await includeFile(reader, included[1]!.trim(), where, depth);
      continue;
    }
    readLine(reader, line, where);
  }
}

function readLine({ sections, outside }: Reader, line: string, where: string): void {
  const header = /^\[(.*)\]$/.exec(line);
  if (header) return void sections.push({ name: header[1]!.trim(), where, options: [] });
  if (line.startsWith("[")) throw new WorkloadError(`${where}: '${line}' is no section: the ']' is missing`);
  const section = sections.at(-1);
  if (!section) throw new WorkloadError(`${where}: '${line}' stands before the first [section]`);
  const equals = line.indexOf("=");
  const name = (equals < 0 ? line : line.slice(0, equals)).trim();
  if (!/^[a-z_][a-z0-9_]*$/i.test(name)) throw new WorkloadError(`${where}: '${line}' is no option`);
  const value = equals < 0 ? undefined : expanded(line.slice(equals + 1).trim(), outside);
  section.options.push({ name: name.toLowerCase(), value, where });
}

/** Reads a job file. Throws WorkloadError. */
export async function readFioFile(text: string, outside: FioOutside = {}): Promise<FioSection[]> {
  const reader: Reader = { sections: [], outside };
  await readLines(reader, text, { file: "", depth: 0 });
  return reader.sections;
}
