/**
 * Counting the requests of a node, and publishing them on the channel `blockwright:request` while somebody listens.
 * Invariants: a request is handed on as it came, so that nobody waits for the counting; without listeners nothing is made for a
 * request that is answered at once.
 */
import { type Answer, isPromise } from "../../base/answer.ts";
import type { ByteRange } from "../../base/ranges.ts";
import type { AccountedKind } from "../model/accounting.ts";
import type { BlockNode, ChildParent } from "../model/node.ts";

/** What is published of a request when it is over. */
interface RequestMessage extends ByteRange {
  operation: "read" | "write" | "write-zeroes" | "discard" | "flush";
  /** Name of the node, and of its driver. */
  node: string;
  driver: string;
  /** Who asked, in words. */
  user: string;
  durationMs: number;
  /** What it failed with, if it did. */
  error?: unknown;
}

/** Counts a request that has been issued. */
export function counted(
  node: BlockNode,
  kind: AccountedKind,
  bytes: number,
  answer: Answer<void>,
): Answer<void> {
  if (!isPromise(answer)) {
    node.account.done(kind, bytes);
    return undefined;
  }
  const { account } = node;
  const { clock } = node.services.host;
  const fromMs = clock.nowMs();
  answer.then(
    () => account.done(kind, bytes, clock.nowMs() - fromMs),
    () => account.failed(kind, clock.nowMs() - fromMs),
  );
  return answer;
}

/** A request that is about to be published. */
export type Told = Pick<RequestMessage, "operation" | "offset" | "bytes">;

/** Publishes a request when it is over; `issue` issues it. Only while somebody listens. */
export function told(
  node: BlockNode,
  parent: ChildParent,
  request: Told,
  issue: () => Answer<void>,
): Answer<void> {
  const { clock } = node.services.host;
  const fromMs = clock.nowMs();
  const tell = (failure: { error?: unknown }): void => {
    const durationMs = clock.nowMs() - fromMs;
    const about = { node: node.name, driver: node.type.name, user: parent.describe(), durationMs };
    node.watchers?.publish({ ...request, ...about, ...failure } satisfies RequestMessage);
  };
  const answer = issue();
  if (isPromise(answer))
    answer.then(
      () => tell({}),
      (error: unknown) => tell({ error }),
    );
  else tell({});
  return answer;
}
