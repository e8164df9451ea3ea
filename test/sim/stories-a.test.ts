// The fixed stories 1 to 250, the same in every run.
import { tellStories } from "./tell.ts";

tellStories(1, 250);
