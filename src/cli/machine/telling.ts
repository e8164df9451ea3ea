/** How a machine says what is wrong with its options. */
import { printableMessage } from "../printable.ts";
import { verbProgram } from "../program.ts";
import { blaming, type GivenOption } from "./options.ts";

/** What is told without the option that asked for it, or with several. */
export class Unlocated extends Error {}

/** Two lines about one option. */
export function twice(
  option: Omit<GivenOption, "value"> | undefined,
  message: string,
  then: string,
): Unlocated {
  const first = option ? blaming(option, message) : ` ${message}`;
  return new Unlocated(`${first}\n${verbProgram("machine")}:${then}`);
}

/** Says something on stderr, behind the program's name and a colon. */
export function tell(text: string): void {
  process.stderr.write(`${verbProgram("machine")}:${printableMessage(text)}\n`);
}
