// The matrix: every kind of image that both programs write, with every history (see support/matrix-kinds.ts), made by the
// real tools and by us, read and written on by the other, clean in the real check and equal in the real compare.
import { expect, test } from "vitest";
import { playKind } from "./support/matrix.ts";
import { kinds } from "./support/matrix-kinds.ts";

const seed = Number(process.env["MATRIX_SEED"] ?? 20_261_125);

test("the matrix has at least 150 kinds, each once", () => {
  expect(kinds.length).toBeGreaterThanOrEqual(150);
  expect(new Set(kinds.map(({ name }) => name)).size).toBe(kinds.length);
});

for (const [index, kind] of kinds.entries()) {
  test.concurrent(kind.name, async () => {
    try {
      await playKind(kind, seed + index);
    } catch (error) {
      const command = `MATRIX_SEED=${seed} npx vitest run --project interop test/interop/matrix.test.ts`;
      throw new Error(`${String(error)}\nreplay: ${command} -t ${JSON.stringify(kind.name)}`, {
        cause: error,
      });
    }
  });
}
