"""`python -m collector.decoder`: the decoder's own process. The service starts it; it has no other use."""

from collector.decoder.process import main

main()
