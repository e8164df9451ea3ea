// Chromium is killed, with all its processes, while a job fills the overlay and the guest writes to it, again and again over one
// disk: it opens again, no cluster is torn, and no write that the guest was told of is lost.
import { test } from "vitest";
import { kills } from "./stories/kill.ts";

const KILLS = 20;

test(`${KILLS} kills in the middle of a fill and of the guest's writes`, () => kills("chromium", KILLS));
