"""The commands of the house: what a person or a machine types to run, test and prove MessageCore."""
