/**
 * A Host in virtual time over another one, whose files, codecs and web servers it lends: what they do takes no virtual time
 * (device/driver.ts says how long a request takes). Sockets and keys are left out: nobody knows what a peer does meanwhile, and
 * keys are derived for a measured time.
 *
 * Invariant: the real clock and the platform's randomness are never asked.
 */
import type {
  Clock,
  Host,
  HostCodecs,
  HostFiles,
  HostHttp,
  HttpRequest,
  HttpResponse,
  Random,
} from "../../base/host.ts";
import { noiseWord } from "../../kernels/twin-noise.ts";
import { Scheduler } from "./scheduler.ts";

/** How long a turn takes, virtual ms: long enough to let others run, too short to be seen. */
const TURN_MS = 1e-6;

/** The key of the host's own randomness (names and jitter), apart from all streams of a workload. */
const HOST_KEY = 0x686f7374;

/** A host of virtual time, and the queue of what happens in it. */
export interface VirtualHost extends Host {
  readonly scheduler: Scheduler;
}

/** The calls of an object, each of which stops virtual time until it has ended. */
function tracked<T extends object>(scheduler: Scheduler, target: T): T {
  const calls = new Map<PropertyKey, unknown>();
  const get = (_target: T, name: PropertyKey): unknown => {
    const member: unknown = Reflect.get(target, name, target);
    if (typeof member !== "function") return member;
    let call = calls.get(name);
    if (call === undefined) calls.set(name, (call = trackedCall(scheduler, target, member)));
    return call;
  };
  return new Proxy(target, { get });
}

function trackedCall(
  scheduler: Scheduler,
  target: object,
  // oxlint-disable-next-line typescript/no-unsafe-function-type -- whatever the object has
  member: Function,
): (...args: unknown[]) => unknown {
  return (...args) => {
    const answer: unknown = Reflect.apply(member, target, args);
    if (!(answer instanceof Promise)) return answer;
    return scheduler.outside(answer.then((value: unknown) => trackedResult(scheduler, value)));
  };
}

/** An open file's calls take no time, either; what is plain data stays as it is. */
function trackedResult(scheduler: Scheduler, value: unknown): unknown {
  const isFile = typeof value === "object" && value !== null && "read" in value && "flush" in value;
  return isFile ? tracked(scheduler, value) : value;
}

/** Web servers: an answer is there when all of its body is, which then comes in no time. */
function trackedHttp(scheduler: Scheduler, http: HostHttp): HostHttp {
  const whole = async (url: string, request: HttpRequest): Promise<HttpResponse> => {
    const { status, headers, body } = await http.get(url, request);
    if (!body) return { status, headers, body };
    const chunks: Uint8Array[] = [];
    const reader = body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) chunks.push(part.value);
    const all = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      },
    });
    return { status, headers, body: all };
  };
  return { ...http, get: (url, request) => scheduler.outside(whole(url, request)) };
}

/** A host in virtual time, over `base`. `seed`: of what the host draws. */
export function virtualHost(base: Host, seed: number): VirtualHost {
  const scheduler = new Scheduler();
  const clock: Clock = {
    nowMs: () => scheduler.nowMs,
    wallMicroseconds: () => Math.floor(scheduler.nowMs * 1000),
    timer: (delayMs, callback) => scheduler.after(delayMs, callback),
    turn: () => scheduler.sleep(TURN_MS),
  };
  let drawn = 0;
  const key = { low: seed >>> 0, high: HOST_KEY };
  const random: Random = {
    below: (limit) => Math.floor((noiseWord(key, drawn++) / 2 ** 32) * limit),
  };
  const files: HostFiles = tracked(scheduler, base.files);
  const codecs: HostCodecs = tracked(scheduler, base.codecs);
  return {
    scheduler,
    clock,
    random,
    files,
    codecs,
    ...(base.http ? { http: trackedHttp(scheduler, base.http) } : {}),
  };
}

/** A question to somebody outside, who may look at the platform's files for the answer: virtual time stands still meanwhile. */
export function asking<Question, Given>(
  { scheduler }: VirtualHost,
  ask: (question: Question) => Promise<Given>,
): (question: Question) => Promise<Given> {
  return (question) => scheduler.outside(ask(question));
}
