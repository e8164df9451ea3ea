// A hundred stories that no run has told before, if whoever starts it says where: BLOCKWRIGHT_SIM_BASE, a number.
import { tellStories } from "./tell.ts";

tellStories(Number(process.env["BLOCKWRIGHT_SIM_BASE"] ?? 100_000), 100);
