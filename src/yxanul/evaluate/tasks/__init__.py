"""Tasks as lm-evaluation-harness 0.4.13 defines them: prompts, what is asked, what is right."""
