/**
 * How eagerly V8 compiles. Every function that runs for a while is handed to the optimising compiler, which takes more
 * processor time for it than a program that ends within a second gets back: half of what a conversion of many small
 * pieces cost.
 */

/** What a function runs before it is compiled anew, bytes of its bytecode; V8's own is an eighth of it. */
const BUDGET_BYTES = 1_000_000;
/** The version of V8 that counts so: that of Node 20. Later ones have no such flag, and would say so on stderr. */
const COUNTS_BYTES = /^11\./;

/**
 * Has V8 wait longer before it optimises: for programs that end soon. What runs for seconds is compiled all the same. It
 * changes which compiled code V8 takes, so it comes before any is read.
 */
export function optimiseLater(): void {
  if (!COUNTS_BYTES.test(process.versions.v8)) return;
  const { setFlagsFromString } = process.getBuiltinModule("node:v8");
  setFlagsFromString(`--interrupt-budget=${BUDGET_BYTES}`);
}
