// Stories 251 to 500.
import { tellStories } from "./tell.ts";

tellStories(251, 250);
