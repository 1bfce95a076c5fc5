from hooke.cli import main

main()
