/**
 * `blockwright sim`: reads what is to be simulated, and tells what was found. Exit status: 0 no violation, 1 one or more, 2 bad
 * input. With --json stdout holds one document, also where there is nothing to tell but an error.
 */
import { readFile } from "node:fs/promises";
import { messageOf } from "../../../base/errors.ts";
import { watchRejections } from "../../../platform/node/rejections.ts";
import type { SimDocument, SimulateOptions, StoryReport } from "../../../sim.ts";
import { printable, printableMessage } from "../../printable.ts";
import type { SimFlags } from "./flags.ts";
import { reasonOf } from "../../reason.ts";

/** Bad input, told in words. */
class InputError extends Error {}

/** Lines of a trace that a text ends with. */
const TAIL = 100;

const ZOO = "the zoo of planted bugs is no part of the package: run 'npm run sim -- --zoo' in the repository";

function whole(text: string | undefined, what: string): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= 2 ** 31)) throw new InputError(`${what}: '${text}' is no whole number up to 2147483648`);
  return value;
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch (error) {
    throw new InputError(`could not read '${file}': ${reasonOf(error)}`);
  }
}

/** The story that a document tells of: the first that went wrong, as small as it is there. */
async function replayed(file: string): Promise<StoryReport["plan"]> {
  const document = (await readJson(file)) as Partial<SimDocument> | null;
  const found = document?.violations?.[0];
  const plan = (found?.shrunk ?? found ?? document?.story)?.plan;
  if (!plan || typeof plan.seed !== "number" || !Array.isArray(plan.chain))
    throw new InputError(`'${file}' tells of no story`);
  return plan;
}

function minutesOf(text: string | undefined): (() => boolean) | undefined {
  if (text === undefined) return undefined;
  const minutes = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
  if (minutes === 0) throw new InputError(`--minutes: '${text}' is no number above 0`);
  const end = performance.now() + minutes * 60_000;
  return () => performance.now() >= end;
}

async function optionsOf(graphs: readonly string[], flags: SimFlags): Promise<SimulateOptions> {
  const unknown = graphs.find((word) => word.startsWith("-"));
  if (unknown !== undefined) throw new InputError(`unknown option '${unknown}'`);
  const [graph, ...more] = graphs;
  if (more.length > 0) throw new InputError("expecting one description of a graph");
  if (flags.zoo) throw new InputError(ZOO);
  const stories = whole(flags.stories, "--stories");
  if (stories === 0) throw new InputError("--stories: a run of nothing");
  if (flags.replay !== undefined && (graph ?? flags.seed ?? flags.stories ?? flags.minutes) !== undefined)
    throw new InputError("--replay has its own graph and seed, and is one story");
  return {
    seed: whole(flags.seed, "--seed"),
    stories,
    isOver: minutesOf(flags.minutes),
    shrink: flags.shrink ?? false,
    keepIo: flags.io ?? false,
    watchRejections,
    ...(graph === undefined ? {} : { graph: await readJson(graph) }),
    ...(flags.replay === undefined ? {} : { plan: await replayed(flags.replay) }),
  };
}

function traceOf({ trace }: StoryReport, most = Infinity): string[] {
  const shown = trace.slice(-most);
  return [`trace (${shown.length} of ${trace.length} lines, virtual milliseconds):`, ...shown];
}

function toldStory(story: StoryReport): string[] {
  return [...story.violations.map((text) => `  ${text}`), `plan: ${JSON.stringify(story.plan)}`];
}

/** The document for people. */
function textOf(document: SimDocument, graph: string | undefined): string {
  const { stories, requests, fileRequests, faults, jobErrors, powerCuts, wrong, outcomes, digest } = document;
  const lines: string[] = [];
  for (const found of document.violations) {
    lines.push(`seed ${found.seed}: ${found.violations.length} violations in ${found.steps} steps`);
    const words = ["blockwright sim", ...(graph === undefined ? [] : [graph]), "--seed", found.seed];
    lines.push(`replay: ${words.join(" ")}`, ...toldStory(found));
    const { shrunk } = found;
    if (shrunk) lines.push(`shrunk to ${shrunk.steps} steps:`, ...toldStory(shrunk));
    lines.push(...traceOf(shrunk ?? found, TAIL), "");
  }
  if (document.story && wrong === 0) lines.push(...traceOf(document.story), "");
  for (const [what, count] of Object.entries(outcomes)) lines.push(`${what}: ${count}`);
  lines.push(
    `${stories} stories from seed ${document.seed}: ${requests} requests, ${fileRequests} to files, ${faults} faults, ${jobErrors} errors of jobs, ` +
      `${powerCuts} power cuts, digest ${digest}`,
    `${wrong} stories with violations`,
  );
  return `${lines.map((line) => printable(line)).join("\n")}\n`;
}

/** Runs the verb; resolves with the exit status. */
export async function sim(graphs: readonly string[], flags: SimFlags): Promise<number> {
  const { loadSimulator } = await import("../../late.ts");
  const { simulate, failedRun, GraphError } = await loadSimulator();
  try {
    const document = await simulate(await optionsOf(graphs, flags));
    process.stdout.write(flags.json ? `${JSON.stringify(document)}\n` : textOf(document, graphs[0]));
    return document.wrong > 0 ? 1 : 0;
  } catch (error) {
    const isInput = error instanceof InputError || error instanceof GraphError;
    if (flags.json)
      process.stdout.write(`${JSON.stringify(failedRun(Number(flags.seed ?? 1) || 1, error))}\n`);
    process.stderr.write(`blockwright sim: ${printableMessage(messageOf(error))}\n`);
    return isInput ? 2 : 1;
  }
}
