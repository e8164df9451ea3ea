/**
 * Runs of stories, and the one document that tells what they found. The same seeds give the same document, on every machine.
 *
 * Invariant: no real clock is asked; whoever wants an end by the clock says so by `isOver`.
 */
import { BlockError, CommandError, messageOf } from "../base/errors.ts";
import { planStory, type StoryPlan } from "./plan.ts";
import { type GraphDescription, GraphError, readGraph } from "./graph.ts";
import { Dice } from "./dice.ts";
import { SimHost } from "./host.ts";
import { runStory } from "./run-story.ts";
import { shrinkStory } from "./shrink.ts";
import type { StoryOptions, StoryResult } from "./story.ts";
import { World, makeEngine } from "./world.ts";

/** Stories of a run that does not say how many. */
const USUAL_STORIES = 100;
/** Stories that are told as they went wrong; the others are counted. */
const MOST_TOLD = 10;

/** What a run is to do. */
export interface SimulateOptions extends Pick<StoryOptions, "keepIo" | "watchRejections" | "sabotage"> {
  /** The first story's seed; default 1. A seed without `stories` and `isOver` is one story. */
  seed?: number | undefined;
  stories?: number | undefined;
  /** Asked before each story but the first: whether it was the last one. */
  isOver?: (() => boolean) | undefined;
  /** The content of a file that describes the graph (see readGraph). */
  graph?: unknown;
  /** Makes what goes wrong smaller. */
  shrink?: boolean;
  /** A story that was told before (`plan` of a document), instead of a seed's. */
  plan?: StoryPlan | undefined;
}

/** A story as it went. */
export interface StoryReport {
  readonly seed: number;
  /** Requests, acts of the user, faults, the job, the power cut. */
  readonly steps: number;
  /** How the job ended. */
  readonly outcome: string;
  readonly violations: readonly string[];
  readonly plan: StoryPlan;
  /** What happened: virtual ms, then requests, events as QMP has them, faults, acts. */
  readonly trace: readonly string[];
}

/** A story that went wrong. */
export interface FoundStory extends StoryReport {
  /** The same, made smaller. */
  readonly shrunk: StoryReport | null;
}

/** What a run found. */
export interface SimDocument {
  readonly status: "ok" | "violations" | "failed";
  /** The first seed. */
  readonly seed: number;
  readonly stories: number;
  /** Of guests. */
  readonly requests: number;
  /** Of the engine to its files. */
  readonly fileRequests: number;
  readonly faults: number;
  readonly jobErrors: number;
  readonly powerCuts: number;
  /** Stories with violations; `violations` tells of the first ten. */
  readonly wrong: number;
  /** How many jobs of each kind ended how. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Of all that happened, requests to files included. */
  readonly digest: string;
  /** The only story of a run of one. */
  readonly story: StoryReport | null;
  readonly violations: readonly FoundStory[];
  readonly errors: readonly { readonly message: string }[];
}

function reportOf({ seed, told, outcome, violations, plan, trace }: StoryResult): StoryReport {
  return { seed, steps: told, outcome, violations, plan, trace };
}

/** The document of a run that could not begin. */
export function failedRun(seed: number, error: unknown): SimDocument {
  const nothing = {
    stories: 0,
    requests: 0,
    fileRequests: 0,
    faults: 0,
    jobErrors: 0,
    powerCuts: 0,
    wrong: 0,
  };
  const lists = { outcomes: {}, digest: "", story: null, violations: [] };
  return { status: "failed", seed, ...nothing, ...lists, errors: [{ message: messageOf(error) }] };
}

/** Opens the graph once, without a story, so that what is wrong with it is told as such. Throws GraphError. */
async function tryGraph(graph: GraphDescription): Promise<void> {
  const dice = new Dice(1);
  const host = new SimHost(1);
  const plan = planStory(1, dice.fork(), graph);
  const world = new World(host, plan, dice);
  const body = async (): Promise<void> => {
    await world.create();
    const engine = makeEngine(host, plan.arenaBytes);
    await world.open(engine);
    await engine.close();
  };
  try {
    await host.scheduler.settle(body(), { limitMs: 600_000 });
  } catch (error) {
    if (error instanceof BlockError || error instanceof CommandError)
      throw new GraphError(`the graph can't be opened: ${error.message}`);
    throw error;
  }
}

/** What is counted over all stories. */
class Counts {
  stories = 0;
  requests = 0;
  fileRequests = 0;
  faults = 0;
  jobErrors = 0;
  powerCuts = 0;
  wrong = 0;
  readonly outcomes: Record<string, number> = {};
  #digest = 0;

  add(result: StoryResult): void {
    this.stories += 1;
    this.requests += result.requests;
    this.fileRequests += result.fileRequests;
    this.faults += result.faults;
    this.jobErrors += result.jobErrors;
    this.powerCuts += result.powerCuts;
    if (result.violations.length > 0) this.wrong += 1;
    const key = `${result.plan.job.kind} ${result.outcome}`;
    this.outcomes[key] = (this.outcomes[key] ?? 0) + 1;
    for (const half of [result.hash.slice(0, 8), result.hash.slice(8)])
      this.#digest = (Math.imul(this.#digest, 0x01000193) ^ Number.parseInt(half, 16)) >>> 0;
  }

  get told(): Omit<SimDocument, "status" | "seed" | "story" | "violations" | "errors"> {
    const { stories, requests, fileRequests, faults, jobErrors, powerCuts, wrong } = this;
    const sorted = Object.entries(this.outcomes).toSorted(([a], [b]) => (a < b ? -1 : 1));
    const digest = this.#digest.toString(16).padStart(8, "0");
    return {
      stories,
      requests,
      fileRequests,
      faults,
      jobErrors,
      powerCuts,
      wrong,
      outcomes: Object.fromEntries(sorted),
      digest,
    };
  }
}

/** Runs stories. Throws GraphError for a description that is none. */
export async function simulate(options: SimulateOptions = {}): Promise<SimDocument> {
  const { seed: given, isOver, keepIo, watchRejections, sabotage, plan } = options;
  const graph = options.graph === undefined ? undefined : readGraph(options.graph);
  if (graph) await tryGraph(graph);
  const seed = plan?.seed ?? given ?? 1;
  const alone = plan !== undefined || (given !== undefined && !isOver);
  const most = plan ? 1 : (options.stories ?? (isOver ? Infinity : alone ? 1 : USUAL_STORIES));
  const how: StoryOptions = {
    ...(keepIo === undefined ? {} : { keepIo }),
    ...(watchRejections ? { watchRejections } : {}),
    ...(sabotage ? { sabotage } : {}),
    ...(graph ? { graph } : {}),
  };
  const counts = new Counts();
  const found: FoundStory[] = [];
  let story: StoryReport | null = null;
  for (let number = 0; number < most; number++) {
    if (number > 0 && isOver?.()) break;
    const result = await runStory(seed + number, plan ? { ...how, plan: structuredClone(plan) } : how);
    counts.add(result);
    if (most === 1) story = reportOf(result);
    if (result.violations.length === 0 || found.length >= MOST_TOLD) continue;
    const shrunk = options.shrink ? reportOf(await shrinkStory(result, how)) : null;
    found.push({ ...reportOf(result), shrunk });
  }
  const status = found.length > 0 ? "violations" : "ok";
  return { status, seed, ...counts.told, story, violations: found, errors: [] };
}
