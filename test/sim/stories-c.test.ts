// Stories 501 to 750.
import { tellStories } from "./tell.ts";

tellStories(501, 250);
