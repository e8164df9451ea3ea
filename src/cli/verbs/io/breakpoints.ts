/**
 * The commands `break`, `remove_break`, `resume` and `wait_break`: requests that blkdebug holds back. They go to the first
 * blkdebug below the disk, on the way to its data. Source: behaviour of qemu-io 7.2, which waits for ever in `wait_break` where
 * no request is under way that could reach the breakpoint; here that is refused.
 */
import { strerror } from "../../../base/errno.ts";
import { sleep } from "../../../base/sleep.ts";
import { blkdebugEvents, type RuleEngine } from "../../../drivers/filter/blkdebug-rules.ts";
import { rulesBelow } from "./disk.ts";
import { IoFailure } from "./failure.ts";
import type { IoCommand, Session } from "./session.ts";

/** How often wait_break looks, ms. */
const LOOK_MS = 1;

function rulesFor(session: Session, what: string): RuleEngine {
  const rules = rulesBelow(session.disk.node);
  if (!rules) throw new IoFailure(`Could not ${what}: ${strerror("ENOTSUP")}`);
  return rules;
}

function setBreakpoint(session: Session, [event, tag]: readonly string[]): void {
  const rules = rulesFor(session, "set breakpoint");
  if (!blkdebugEvents.has(event!)) throw new IoFailure(`Could not set breakpoint: ${strerror("ENOENT")}`);
  rules.onHold = (held, isHeld) =>
    session.verb.print(`blkdebug: ${isHeld ? "Suspended" : "Resuming"} request '${held}'\n`);
  rules.breakpoint(event!, tag!);
}

function removeBreakpoint(session: Session, [tag]: readonly string[]): void {
  const what = `remove breakpoint ${tag}`;
  const rules = rulesFor(session, what);
  if (!rules.removeBreakpoint(tag!)) throw new IoFailure(`Could not ${what}: ${strerror("ENOENT")}`);
}

function resume(session: Session, [tag]: readonly string[]): void {
  const rules = rulesFor(session, "resume request");
  if (!rules.resume(tag!)) throw new IoFailure(`Could not resume request: ${strerror("ENOENT")}`);
}

async function waitBreak(session: Session, [tag]: readonly string[]): Promise<void> {
  const what = "wait for a request";
  const rules = rulesFor(session, what);
  const { engine, signal } = session.verb;
  while (!rules.isSuspended(tag!)) {
    if (!session.isBusy) throw new IoFailure(`Could not ${what}: ${strerror("ENOENT")}`);
    await sleep(engine.graph.host.clock, LOOK_MS, signal);
  }
}

function command(
  name: string,
  synopsis: string,
  summary: string,
  run: (session: Session, words: readonly string[]) => Promise<void> | void,
): IoCommand {
  const count = synopsis.split(" ").length;
  return {
    name,
    synopsis,
    summary,
    words: [count, count],
    run: async (session, args) => {
      args.takeAll();
      await run(session, args.rest);
      return true;
    },
  };
}

/** The commands on breakpoints. */
export const breakpointCommands: readonly IoCommand[] = [
  command(
    "break",
    "event tag",
    "holds back the next request that comes to an event of blkdebug",
    setBreakpoint,
  ),
  command("remove_break", "tag", "takes breakpoints back and lets their requests go on", removeBreakpoint),
  command("resume", "tag", "lets a request go on that is held back", resume),
  command("wait_break", "tag", "waits until a request is held back", waitBreak),
];
