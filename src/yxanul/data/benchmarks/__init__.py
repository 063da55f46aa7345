"""Items of benchmarks, from the hub, a folder or installed packages: texts and right answers."""
