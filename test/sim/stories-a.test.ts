// Stories 1 to 250.
import { tellStories } from "./tell.ts";

tellStories(1, 250);
