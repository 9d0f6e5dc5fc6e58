"""``python -m twin.service.cli`` is ``hptwin``."""

from twin.service.cli import main

if __name__ == "__main__":
    main()
