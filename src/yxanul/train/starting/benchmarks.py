"""The items of a run's skills: read when it begins, kept beside it, looked for in its text."""

from collections.abc import Callable, Sequence

from yxanul.config.evaluation import SkillConfig
from yxanul.config.schema import StageConfig
from yxanul.data.benchmarks.find import Prepared, find_benchmark
from yxanul.data.benchmarks.frozen import forget_kept, keep_benchmark, load_all_kept
from yxanul.data.contamination.scan import scan_once
from yxanul.data.items import Benchmark
from yxanul.evaluate.tasks.options import TaskOptions
from yxanul.evaluate.tasks.score import ask
from yxanul.runfolder.layout import RunFolder
from yxanul.train.probing.begun import begun_with
from yxanul.train.starting.corpus import Corpus


def gather_benchmarks(
    stages: Sequence[StageConfig],
    corpus: Corpus,
    *,
    folder: RunFolder,
    trained: Sequence[str],
    say: Callable[[str], None],
) -> dict[str, Benchmark]:
    """Return {task: its items} of the stages' skills, and see which the training text holds.

    What the run has kept for other stages is among them: an earlier verdict rests on whether those
    items were looked for. `trained` names the stages whose text is looked through. The main rank
    does it. Raises what reading a set and asking about its items do, before anything is trained.
    """
    # What is left is of a start that was refused, and may have been a mistake.
    begun = begun_with(folder)
    known = () if begun is None else begun.stages
    forget_kept(folder.bench, but={s.task for one in known for s in one.evaluation.skills})
    benchmarks: dict[str, Benchmark] = {}
    for stage in stages:
        for skill in stage.evaluation.skills:
            if skill.task not in benchmarks:
                bench = stage.evaluation.bench

                def read(skill: SkillConfig = skill, bench: str = bench) -> Benchmark:
                    return find_benchmark(
                        skill.task,
                        bench=bench,
                        prepared=Prepared(corpus.manifest, corpus.root),
                        with_shots=bool(skill.shots_used),
                        news=say,
                    )

                benchmarks[skill.task] = keep_benchmark(folder.bench, skill.task, read=read)
                found = benchmarks[skill.task]
                say(f"skill {skill.task}: {len(found.items):,} items from {found.origin}")
                # Too few worked examples are told now, not when the stage has been trained.
                ask(found, TaskOptions(limit=skill.items, shots=skill.shots))
    benchmarks = load_all_kept(folder.bench) | benchmarks
    if benchmarks:
        scan_once(
            folder.contamination,
            corpus.root,
            benchmarks=list(benchmarks.values()),
            stages=trained,
            say=say,
        )
    return benchmarks
