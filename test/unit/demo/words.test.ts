// What the demo says: why the guest or a job waits, and what brings it on.
import { expect, it } from "vitest";
import { explain } from "../../../src/dashboard/words.ts";

const calm = { isStopped: false, isAutomatic: true, isAllHere: false };

it("names the sector that the guest waits for, and why", () => {
  const now = { ...calm, isStopped: true, wants: { what: "read", sector: 4711 } as const };
  expect(explain(now)).toBe(
    "The guest waits: it wants sector 4711, which is still on the server, and the server does not answer. Its clock " +
      "stands still, so it notices nothing. It goes on by itself once that is over.",
  );
  expect(explain({ ...now, wants: { what: "write", sector: 8 } })).toContain(
    "writes sector 8, and the storage is full",
  );
});

it("says whether somebody must press something", () => {
  const job = { kind: "fill", ioStatus: "nospace" };
  expect(explain({ ...calm, job })).toBe(
    "The guest runs. The stream waits: the storage is full. What it has copied is kept. It tries again by itself.",
  );
  const manual = explain({
    ...calm,
    isStopped: true,
    isAutomatic: false,
    job: { kind: "backup", ioStatus: "failed" },
  });
  expect(manual).toContain('Press "Continue the guest"');
  expect(manual).toContain(
    'The backup waits: the server does not answer. What it has copied is kept. Press "Resume"',
  );
});

it("says what goes on while nothing waits", () => {
  const job = { kind: "fill", ioStatus: "ok" };
  expect(explain({ ...calm, job })).toContain("a stream brings the rest of its disk");
  expect(explain({ ...calm, job: { kind: "mirror", ioStatus: "ok" } })).toContain(
    "the mirror reads its disk",
  );
  expect(explain({ ...calm, isAllHere: true })).toContain("needs no server any more");
  expect(explain(calm)).toContain("is fetched from the server");
});
