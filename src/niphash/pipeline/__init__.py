"""The walk through the rooms: photos -> descriptors -> codes -> ranking -> numbers and pictures."""
