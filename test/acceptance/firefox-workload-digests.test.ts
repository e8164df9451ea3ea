// Workloads in Firefox on the virtual clock: digests and results are this Node's (BLOCKWRIGHT_DIGEST_WORKLOADS: how many).
import { test } from "vitest";
import { digests } from "./stories/digests.ts";

test("results of workloads are the same to the last digit", () => digests("firefox"));
