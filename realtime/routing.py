websocket_urlpatterns=[]
