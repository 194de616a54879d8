"""``python -m infra.reference``: draw the reference pages again."""

from infra.reference.pages import write_all

if __name__ == "__main__":
    for path in write_all():
        print(path)
