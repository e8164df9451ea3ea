// Stories 751 to 1000.
import { tellStories } from "./tell.ts";

tellStories(751, 250);
