// The fixed stories 751 to 1000, the same in every run.
import { tellStories } from "./tell.ts";

tellStories(751, 250);
