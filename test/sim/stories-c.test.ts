// The fixed stories 501 to 750, the same in every run.
import { tellStories } from "./tell.ts";

tellStories(501, 250);
