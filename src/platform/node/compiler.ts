/**
 * How eagerly V8 compiles. Every function that runs for a while is handed to the optimising compiler, which takes more
 * processor time for it than a program that ends within a second gets back: half of what a conversion of many small
 * pieces cost.
 */
import { setFlagsFromString } from "node:v8";

/** What a function runs before it is compiled anew, bytes of its bytecode; V8's own is an eighth of it. */
const BUDGET_BYTES = 1_000_000;

/** Has V8 wait longer before it optimises: for programs that end soon. What runs for seconds is compiled all the same. */
export function optimiseLater(): void {
  setFlagsFromString(`--interrupt-budget=${BUDGET_BYTES}`);
}
