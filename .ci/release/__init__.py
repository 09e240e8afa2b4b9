"""What makes a release: wheel, sdist, offline bundles and all that goes with them.

    python .ci/release build --to dist                     all; asks the package registry
    python .ci/release build --to dist --only linux-x86_64-py312
    python .ci/release resolve                             are there binary wheels of everything?
    python .ci/release rehearse dist/BUNDLE.tar.gz         installs it and runs the demo offline

It stands beside the product: nothing of `d2i_helpers` needs it. Install what it needs with
`python -m pip install -c constraints.txt -e ".[release]"`.
"""
