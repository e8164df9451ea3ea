// rebase or commit over a chain of files, in a process that is made to be killed: `chain-verb.mjs STORY.json`. Writes how
// many changes of files it made when it ends by itself.
import { readFileSync } from "node:fs";
import { type ChainStory, carryOut } from "./support/chain-story.ts";
import { type Death, killingHost } from "./support/killing-host.ts";

const story = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as ChainStory & { death?: Death };
const { host, changes } = killingHost(story.death);
await carryOut(story, host);
process.stdout.write(String(changes()));
