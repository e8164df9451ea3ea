/** Gates of callers, who may answer in another way than TypeScript would let them. */
import { CommandError } from "../base/errors.ts";
import type { Gate, GateAnswer } from "../block/model/gate.ts";

function isAnswer(answer: unknown): answer is GateAnswer {
  const { allow, refuse } = (answer ?? {}) as Record<string, unknown>;
  return typeof refuse === "string" || (refuse === undefined && Object(allow) === allow);
}

/** The gate, which throws CommandError where it answers with something else than an answer. */
export function answering(gate: Gate): Gate {
  return async (request) => {
    const answer: unknown = await gate(request);
    if (isAnswer(answer)) return answer;
    throw new CommandError(`The gate answered neither { allow: spec } nor { refuse: why }`);
  };
}
