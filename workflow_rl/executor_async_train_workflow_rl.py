"""The main job as a script: `python workflow_rl/executor_async_train_workflow_rl.py --help`.

The same as `workflow-rl train`. Nothing is imported unless the file is the program: worker processes import
the main script again, and must not load torch.
"""

if __name__ == "__main__":
    import sys
    from pathlib import Path

    if not __package__:  # run by path: Python put this folder, not the one above, on the import path
        sys.path[0] = str(Path(__file__).resolve().parents[1])

    from workflow_rl.cli import train_program

    train_program()
