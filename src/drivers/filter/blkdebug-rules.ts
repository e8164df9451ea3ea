/**
 * blkdebug's rules: errors injected into requests, a small state machine driven by the events of the format above, and
 * breakpoints that hold requests back.
 *
 * Invariants: the state starts at 1; a rule of state 0 holds in every state. The event `none` fires once, at open. An
 * event with at least one inject-error rule for the current state replaces all active rules; they stay active until the
 * next such event. Rules match in the order in which they were given.
 * Source: QAPI BlkdebugInjectErrorOptions and BlkdebugSetStateOptions; behaviour of QEMU 7.2.
 */
import { type Deferred, deferred } from "../../base/signals.ts";
import { valuesOf } from "../../wire/qapi/option-types.ts";

/** The kinds of request that a rule can choose. */
export const blkdebugIoTypes = valuesOf("BlkdebugIOType");
/** One of them. */
export type BlkdebugIoType = (typeof blkdebugIoTypes)[number];

const defaultIoTypes: readonly BlkdebugIoType[] = ["read", "write", "write-zeroes", "discard", "flush"];

/** The events. */
export const blkdebugEvents: ReadonlySet<string> = new Set(valuesOf("BlkdebugEvent"));

/** An error to inject; numbers as on the wire. */
export interface InjectErrorRule {
  event: string;
  /** The state in which the rule holds; 0 = any. */
  state: number;
  /** Undefined: every type but block-status. */
  iotype: BlkdebugIoType | undefined;
  /** A Linux errno number; 0 stops the search without an error. */
  errno: number;
  /** Sector (512 bytes) that the request must contain; -1 = any request. */
  sector: number;
  /** Goes away once it has hit. */
  once: boolean;
  /** Fails before anything else runs. */
  immediately: boolean;
}

/** A step of the state machine. */
export interface SetStateRule {
  event: string;
  state: number;
  newState: number;
}

/** All rules of one node. */
export interface BlkdebugRules {
  injectError: InjectErrorRule[];
  setState: SetStateRule[];
}

/** A rule with nothing chosen. */
export const injectErrorDefaults: Omit<InjectErrorRule, "event"> = {
  state: 0,
  iotype: undefined,
  errno: 5,
  sector: -1,
  once: false,
  immediately: false,
};

interface Breakpoint {
  event: string;
  tag: string;
}

interface Suspended {
  tag: string;
  resumed: Deferred<void>;
}

/** A request as rules see it; both in bytes. A flush has none. */
export interface RuleRequest {
  iotype: BlkdebugIoType;
  offset: number;
  bytes: number;
}

function matches(rule: InjectErrorRule, { iotype, offset, bytes }: RuleRequest): boolean {
  const typed = rule.iotype === undefined ? defaultIoTypes.includes(iotype) : rule.iotype === iotype;
  if (!typed) return false;
  if (rule.sector === -1) return true;
  const at = rule.sector * 512;
  return bytes > 0 && at >= offset && at < offset + bytes;
}

/** The rules of one node at work. */
export class RuleEngine {
  #state = 1;
  #injectError: InjectErrorRule[];
  readonly #setState: SetStateRule[];
  #active: InjectErrorRule[] = [];
  /** Newest first. */
  readonly #breakpoints: Breakpoint[] = [];
  readonly #suspended: Suspended[] = [];
  /** Told when a request is held back under a tag, and when it goes on. */
  onHold: ((tag: string, held: boolean) => void) | undefined;

  constructor(rules: BlkdebugRules) {
    this.#injectError = [...rules.injectError];
    // Of several steps on one event QEMU lets the first one given win, since it looks at the newest first.
    this.#setState = rules.setState.toReversed();
    void this.fire("none");
  }

  /** The current state. */
  get state(): number {
    return this.#state;
  }

  /** An event of the format above. The promise, if any, resolves when every breakpoint hit has been resumed. */
  fire(event: string): Promise<void> | undefined {
    const state = this.#state;
    const here = (rule: { event: string; state: number }): boolean =>
      rule.event === event && (rule.state === 0 || rule.state === state);
    const activated = this.#injectError.filter(here);
    if (activated.length > 0) this.#active = activated;
    for (const rule of this.#setState) if (here(rule)) this.#state = rule.newState;
    return this.#suspend(event);
  }

  /** The rule that hits the request; a `once` rule is gone afterwards. */
  hit(request: RuleRequest): InjectErrorRule | undefined {
    const rule = this.#active.find((candidate) => matches(candidate, request));
    if (!rule || rule.errno === 0) return undefined;
    if (rule.once) {
      this.#active = this.#active.filter((other) => other !== rule);
      this.#injectError = this.#injectError.filter((other) => other !== rule);
    }
    return rule;
  }

  /** The next request that fires `event` waits under this tag. */
  breakpoint(event: string, tag: string): void {
    this.#breakpoints.unshift({ event, tag });
  }

  /** Takes back the breakpoints of a tag, and lets all its requests go on. False if there was no breakpoint, as in QEMU. */
  removeBreakpoint(tag: string): boolean {
    let found = false;
    for (let i = this.#breakpoints.length - 1; i >= 0; i--) {
      if (this.#breakpoints[i]?.tag !== tag) continue;
      this.#breakpoints.splice(i, 1);
      found = true;
    }
    while (this.resume(tag));
    return found;
  }

  /** Lets the newest request that waits under this tag go on. False if none does. */
  resume(tag: string): boolean {
    const at = this.#suspended.findIndex((suspended) => suspended.tag === tag);
    if (at < 0) return false;
    const [suspended] = this.#suspended.splice(at, 1);
    this.onHold?.(tag, false);
    suspended?.resumed.resolve();
    return true;
  }

  /** Whether a request waits under this tag. */
  isSuspended(tag: string): boolean {
    return this.#suspended.some((suspended) => suspended.tag === tag);
  }

  /** Takes all breakpoints back and lets everything go on. */
  release(): void {
    this.#breakpoints.length = 0;
    for (const { tag } of [...this.#suspended]) this.resume(tag);
  }

  /** Each breakpoint holds one request, once. */
  #suspend(event: string): Promise<void> | undefined {
    const hits = this.#breakpoints.filter((breakpoint) => breakpoint.event === event);
    if (hits.length === 0) return undefined;
    const waits = hits.map(({ tag }) => {
      const resumed = deferred();
      this.#suspended.unshift({ tag, resumed });
      this.onHold?.(tag, true);
      return resumed.promise;
    });
    for (const hit of hits) this.#breakpoints.splice(this.#breakpoints.indexOf(hit), 1);
    return Promise.all(waits).then(() => undefined);
  }
}
