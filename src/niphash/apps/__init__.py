"""The programs a user starts: command line and, later, a web page over a trained model."""
